"""Every attribute name that spans, links and metrics carry: the conventions' for GenAI clients, and this package's own.

Specified in the `GenAI semantic conventions
<https://opentelemetry.io/docs/specs/semconv/gen-ai/>`_ and its OpenAI page. The names are written out here, not
imported from ``opentelemetry.semconv._incubating``: that package is private by name, lags behind the conventions
(0.66b2 has no ``gen_ai.request.previous_response.id``), and costs start-up time.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""What the GenAI conventions say that they are (their registry's manifest, November 2026)."""

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CONVERSATION_COMPACTED: Final = "gen_ai.conversation.compacted"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_STREAM_CURSOR: Final = "gen_ai.request.stream_cursor"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_STATUS: Final = "gen_ai.response.status"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_TEXT_INPUT_TOKENS: Final = "gen_ai.usage.text.input_tokens"
USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
USAGE_IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
USAGE_TEXT_OUTPUT_TOKENS: Final = "gen_ai.usage.text.output_tokens"
USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
USAGE_IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
USAGE_TEXT_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.text.cache_read.input_tokens"
USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
USAGE_IMAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
USAGE_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
USAGE_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
USAGE_COST_SOURCE: Final = "gen_ai.usage.cost.source"
"""What a call cost, by a draft of the conventions: their pull request 443, which is open (November 2026)."""
COST_ATTRIBUTES: Final = frozenset({USAGE_COST_AMOUNT, USAGE_COST_CURRENCY, USAGE_COST_SOURCE})
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
OPERATION_DETAILS: Final = "gen_ai.client.inference.operation.details"
"""Name of the event that carries contents."""
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
EVALUATION_RESULT: Final = "gen_ai.evaluation.result"
"""The event of a judgement."""
ERROR_MESSAGE: Final = "error.message"
"""On an event that carries contents, the server's own words of an error; never on a span."""
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"

LLM_SESSION_ID: Final = "llm_session.id"
"""Where a session travels if the application says something else under ``session.id``; never on a span."""
LLM_SESSION_SOURCE: Final = "llm_session.source"
LLM_SESSION_TURN: Final = "llm_session.turn"
LLM_SESSION_PART: Final = "llm_session.part"
LLM_SESSION_NAME: Final = "llm_session.name"
LLM_SESSION_TAGS: Final = "llm_session.tags"
LLM_SESSION_ROOT: Final = "llm_session.root"
"""On every session's root, by which a backend lists sessions whatever their names."""
LLM_SESSION_LINK: Final = "llm_session.link"
"""On a link, what it is: ``previous_turn``, ``session`` or ``other_session``."""
LLM_SESSION_INPUT_TOKENS: Final = "llm_session.usage.input_tokens"
LLM_SESSION_OUTPUT_TOKENS: Final = "llm_session.usage.output_tokens"
"""On a marker. Not ``gen_ai.usage.*``, which a backend adds up: the turn's own span has those."""
LLM_SESSION_CONTENT: Final = "llm_session.content"
"""How much of a turn's messages its span or event carries: ``delta``, what is new, or ``full``."""
LLM_SESSION_CONTENT_CUT: Final = "llm_session.content_cut"
"""How many characters of them were left out."""
MARKER_NAME: Final = "turn"
"""Name of the spans that stand in a session's trace for turns of other traces."""

MODEL_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "fetch_response"})
"""Values of ``gen_ai.operation.name`` that say: this span is a call of a model."""

INFERENCE_OPERATIONS: Final = frozenset({"chat", "compact"})
"""Our operations that make a model work, and so use tokens."""

PROVIDER_OF_CLASS: Final[dict[str, str]] = {
    "AzureOpenAI": "azure.ai.openai",
    "AsyncAzureOpenAI": "azure.ai.openai",
    "BedrockOpenAI": "aws.bedrock",
    "AsyncBedrockOpenAI": "aws.bedrock",
}
"""``gen_ai.provider.name`` by the client's class (or a base class of it)."""

PROVIDER_OF_HOST: Final[tuple[tuple[str, str], ...]] = (
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("amazonaws.com", "aws.bedrock"),
    ("api.aws", "aws.bedrock"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.anthropic.com", "anthropic"),
    ("api.cohere.com", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    ("watsonx.ai", "ibm.watsonx.ai"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
)
"""``gen_ai.provider.name`` by the end of the server's host name; any other host is an ``openai`` look-alike."""

OPENAI_PROVIDERS: Final = frozenset({"openai", "azure.ai.openai"})
"""The providers whose spans carry ``openai.*``: each provider's own attributes stand on its own spans."""

OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
OPERATION_COST: Final = "gen_ai.client.operation.cost"
"""Of the same draft: a histogram whose currency is an attribute."""
COST_UNIT: Final = "{cost}"
COST_DESCRIPTION: Final = "Monetary cost of a single GenAI inference operation."
DURATION_DESCRIPTION: Final = "Duration of GenAI client operation"
FIRST_CHUNK_DESCRIPTION: Final = (
    "Time to receive the first chunk, measured from when the client issues the generation request to when the first "
    "chunk is received in the response stream."
)
"""As the conventions and the official instrumentation have it: some exporters complain about two descriptions."""

LATEST_DURATION: Final = "gen_ai.client.inference.duration"
LATEST_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
LATEST_TOKEN_HISTOGRAMS: Final[dict[str, str]] = {
    USAGE_INPUT_TOKENS: "gen_ai.client.inference.operation.input_tokens",
    USAGE_OUTPUT_TOKENS: "gen_ai.client.inference.operation.output_tokens",
}
LATEST_TOKEN_COUNTERS: Final[dict[str, str]] = {
    USAGE_INPUT_TOKENS: "gen_ai.client.inference.usage.input_tokens",
    USAGE_OUTPUT_TOKENS: "gen_ai.client.inference.usage.output_tokens",
    USAGE_CACHE_READ_INPUT_TOKENS: "gen_ai.client.inference.usage.cache_read.input_tokens",
    USAGE_CACHE_WRITE_INPUT_TOKENS: "gen_ai.client.inference.usage.cache_write.input_tokens",
    USAGE_REASONING_OUTPUT_TOKENS: "gen_ai.client.inference.usage.reasoning.output_tokens",
}
"""Names under ``OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental``, by the span attribute they count."""

TOKEN_MODALITIES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    USAGE_INPUT_TOKENS: (
        ("text", USAGE_TEXT_INPUT_TOKENS),
        ("audio", USAGE_AUDIO_INPUT_TOKENS),
        ("image", USAGE_IMAGE_INPUT_TOKENS),
    ),
    USAGE_OUTPUT_TOKENS: (
        ("text", USAGE_TEXT_OUTPUT_TOKENS),
        ("audio", USAGE_AUDIO_OUTPUT_TOKENS),
        ("image", USAGE_IMAGE_OUTPUT_TOKENS),
    ),
    USAGE_CACHE_READ_INPUT_TOKENS: (
        ("text", USAGE_TEXT_CACHE_READ_INPUT_TOKENS),
        ("audio", USAGE_AUDIO_CACHE_READ_INPUT_TOKENS),
        ("image", USAGE_IMAGE_CACHE_READ_INPUT_TOKENS),
    ),
}
"""``gen_ai.token.modality`` by the span attribute that holds the part of a count."""

TOKEN_TYPES: Final[dict[str, str]] = {USAGE_INPUT_TOKENS: "input", USAGE_OUTPUT_TOKENS: "output"}
"""``gen_ai.token.type`` of ``gen_ai.client.token.usage``, by the span attribute it counts."""

ASKED_METRIC_ATTRIBUTES: Final = (OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL)
ANSWERED_METRIC_ATTRIBUTES: Final = (RESPONSE_MODEL, ERROR_TYPE)
"""The span attributes that metrics carry too: what the conventions require, and on costs the model that answered; of
low cardinality, and never a session.

What they only recommend (the server, and that model everywhere) is left to spans: the SDK (1.45) cleans, sorts and
hashes each attribute at each record, which takes a twentieth of a span."""

DURATION_BUCKETS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
COST_BUCKETS: Final = (0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384, 65.536)
"""Of the draft, for currencies whose unit is worth about a US dollar."""
