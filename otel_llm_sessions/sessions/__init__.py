"""Which session a call belongs to, and what is remembered of it. Knows neither openai nor wire formats."""
