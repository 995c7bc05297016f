"""The only package that knows the OpenAI client: what is asked, what streams by, what comes back."""
