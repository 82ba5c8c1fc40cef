"""reforge: pre-train, fine-tune and search Reformer language models on Ray."""

__version__ = "0.1.0"
