"""Each backend says what should exist in the kernel; none of them changes it."""
