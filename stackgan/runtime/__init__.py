"""What the process runs on: the memory allocator and the C++ compiler."""
