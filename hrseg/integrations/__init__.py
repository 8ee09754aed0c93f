"""Models in other programs, by the interfaces of those programs; each module is imported by its program only."""
