"""One file a kind of module or tensor that a custom model can be made of; each registers its reader."""
