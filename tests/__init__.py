"""The tests: a folder for each room, and what several of them share beside this file."""
