"""The worker: it carries runs from the store to the engine and back; it holds no science."""
