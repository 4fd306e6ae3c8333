"""Many machines: who drives an instance that programs of several can reach."""
