"""Runtime environment: memory allocator, C++ compiler, device."""
