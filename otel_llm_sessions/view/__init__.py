"""Sessions as they arrived, from wherever: spans as values, an OTLP receiver, the sessions among them, a tree."""
