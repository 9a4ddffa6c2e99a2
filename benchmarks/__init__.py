"""The engine against its floor: what a pass, a gradient and a product cost, and how many it needs."""
