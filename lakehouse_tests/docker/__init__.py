"""The image and the stack on one machine: what their files say, and their processes."""
