"""Recordings of real programs' writes, and how they were made."""
