"""Runtime environment: memory allocator, C++ compiler, device, OpenMP threads."""
