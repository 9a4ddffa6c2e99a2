"""One page a module, or a folder where it is large; each declares its ``PAGE`` (see ``app.routing``)."""
