"""Two chat calls of one session, named the way LiteLLM documents it: by `litellm_session_id` in the metadata.

To run it, in a checkout of this repository:

    pip install ".[instruments,otlp]"
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for LiteLLM or any other OpenAI-compatible server
    opentelemetry-instrument --service_name litellm-chat python examples/litellm_chat.py
"""

import os
import uuid

from openai import OpenAI

client = OpenAI()
model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
session_id = str(uuid.uuid4())

response1 = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Write a short story about a robot"}],
    store=True,  # OpenAI itself takes metadata with stored completions only; LiteLLM does not need it
    extra_body={"metadata": {"litellm_session_id": session_id}},
)
print(response1.choices[0].message.content)

response2 = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Now write a poem about that robot"}],
    store=True,
    extra_body={"metadata": {"litellm_session_id": session_id}},
)
print(response2.choices[0].message.content)
