"""What maintainers run now and then to make a file that is committed."""
