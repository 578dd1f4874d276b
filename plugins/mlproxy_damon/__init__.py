"""Plugin: how eagerly DAMON's proactive reclaim takes memory that is not used."""
