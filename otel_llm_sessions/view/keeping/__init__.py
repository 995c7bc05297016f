"""What arrived, kept in SQLite: whose each span is, a row per session, and what leaves when there is no room."""
