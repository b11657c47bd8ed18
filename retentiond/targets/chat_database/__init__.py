"""The target `chat_database`: the chats of a live-chat product, purged whole, by account and date."""
