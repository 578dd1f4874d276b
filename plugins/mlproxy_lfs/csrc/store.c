// SPDX-License-Identifier: MIT
/* Segments, logs and cleaning of one store. */
#include <stdlib.h>
#include <string.h>
#include "engine.h"

#define SEPBIT_WINDOW	16

int lfs_store_init(struct store *s, const struct lfs_geometry *g, uint32_t nr_blocks)
{
	uint64_t places = (uint64_t)g->nr_segments * g->segment_blocks;

	s->geometry = *g;
	s->segments = calloc(g->nr_segments, sizeof(*s->segments));
	s->free_list = malloc(g->nr_segments * sizeof(*s->free_list));
	s->map = malloc((size_t)nr_blocks * sizeof(*s->map) + 1);
	s->owner = malloc(places * sizeof(*s->owner));
	s->arm = calloc((size_t)nr_blocks + 1, 1);
	if (!s->segments || !s->free_list || !s->map || !s->owner || !s->arm)
		return -1;
	memset(s->map, 0xff, (size_t)nr_blocks * sizeof(*s->map));
	memset(s->owner, 0xff, places * sizeof(*s->owner));
	for (uint32_t i = 0; i < g->nr_segments; i++)
		s->free_list[i] = g->nr_segments - 1 - i;
	s->nr_free = g->nr_segments;
	for (int log = 0; log < LFS_MAX_LOGS; log++)
		s->open[log] = NONE32;
	s->sepbit_life = NONE32;
	return 0;
}

void lfs_store_free(struct store *s)
{
	free(s->segments);
	free(s->free_list);
	free(s->map);
	free(s->owner);
	free(s->arm);
	free(s->program[0]);
	free(s->program[1]);
	free(s);
}

static uint32_t nr_open(const struct store *s)
{
	uint32_t n = 0;

	for (int log = 0; log < LFS_MAX_LOGS; log++)
		n += s->open[log] != NONE32;
	return n;
}

/*
 * A log that nothing was written to for long gives its half-full segment to
 * the log that needs one. So a store that fell back to two logs gets the
 * reserve of the others back.
 */
static bool adopt_idle(struct lfs_engine *e, struct store *s, uint32_t log)
{
	uint32_t patience = (uint32_t)(e->capacity / 16);

	for (uint32_t other = 0; other < LFS_MAX_LOGS; other++) {
		if (other == log || s->open[other] == NONE32)
			continue;
		/* All clocks of a store go round at 32 bits. */
		if ((uint32_t)e->clock - s->last_used[other] <= patience)
			continue;
		s->open[log] = s->open[other];
		s->open[other] = NONE32;
		s->segments[s->open[log]].log = (uint8_t)log;
		return true;
	}
	return false;
}

static int open_segment(struct lfs_engine *e, struct store *s, uint32_t log)
{
	struct segment *g;

	if (adopt_idle(e, s, log))
		return 0;
	if (!s->nr_free)
		return -1;
	s->open[log] = s->free_list[--s->nr_free];
	g = &s->segments[s->open[log]];
	memset(g, 0, sizeof(*g));
	g->state = SEGMENT_OPEN;
	g->log = (uint8_t)log;
	g->opened = (uint32_t)e->clock;
	g->last_invalid = (uint32_t)e->clock;
	return 0;
}

static int append(struct lfs_engine *e, struct store *s, uint32_t log, uint32_t block,
		  uint64_t mtime)
{
	struct segment *g;
	uint32_t place;

	if (s->open[log] == NONE32 && open_segment(e, s, log))
		return -1;
	s->last_used[log] = (uint32_t)e->clock;
	g = &s->segments[s->open[log]];
	place = s->open[log] * s->geometry.segment_blocks + g->fill++;
	g->mtime = (g->mtime * g->valid + mtime) / (g->valid + 1);
	g->valid++;
	s->owner[place] = block;
	s->map[block] = place;
	s->stats.placed[log]++;
	if (g->fill == s->geometry.segment_blocks) {
		g->state = SEGMENT_FULL;
		g->closed = (uint32_t)e->clock;
		s->open[log] = NONE32;
	}
	return 0;
}

static void release(struct lfs_engine *e, struct store *s, uint32_t index)
{
	struct segment *g = &s->segments[index];

	if (g->log == 0) {
		s->sepbit_sum += (uint32_t)e->clock - g->opened;
		if (++s->sepbit_n == SEPBIT_WINDOW) {
			s->sepbit_life = (uint32_t)(s->sepbit_sum / SEPBIT_WINDOW);
			s->sepbit_sum = 0;
			s->sepbit_n = 0;
		}
	}
	g->state = SEGMENT_FREE;
	s->free_list[s->nr_free++] = index;
	s->stats.cleaned++;
}

static int clean_one(struct lfs_engine *e, struct store *s)
{
	uint32_t index = lfs_pick_victim(e, s);
	int32_t features[LFS_NR_FEATURES];
	struct segment *g;
	uint32_t first, end;

	if (index == NONE32)
		return -1;
	g = &s->segments[index];
	if (g->valid == s->geometry.segment_blocks)
		return -1;	/* nothing to gain anywhere */
	first = index * s->geometry.segment_blocks;
	end = first + g->fill;
	for (uint32_t place = first; place < end; place++) {
		uint32_t block = s->owner[place];
		struct block *b;
		struct placing p;
		uint32_t log, arm;
		int action;

		if (block == NONE32)
			continue;
		b = &e->blocks[block];
		lfs_gc_features(e, block, g->log, features);
		p = (struct placing){
			.features = features, .block = block, .stream = LFS_STREAM_GC,
			.life = NONE32, .age = (uint32_t)e->clock - b->birth,
			.origin = g->log,
			.death = e->death_of ? e->death_of[block] : NONE32,
		};
		log = lfs_place(e, s, &p, &arm, &action);
		if (e->gc_store >= 0 && s == e->stores[e->gc_store])
			lfs_sample_move(e, &p, action);
		s->owner[place] = NONE32;
		g->valid--;
		if (append(e, s, log, block, g->mtime))
			return -1;
		s->stats.moved++;
		s->stats.moved_by_arm[s->arm[block]]++;
	}
	release(e, s, index);
	return 0;
}

int lfs_store_write(struct lfs_engine *e, struct store *s, struct placing *p)
{
	uint32_t log, arm;
	int action;

	log = lfs_place(e, s, p, &arm, &action);
	if (s->open[log] == NONE32) {
		uint32_t low = nr_open(s) + 1 + s->geometry.reserve;

		while (s->nr_free < low && !s->full) {
			if (clean_one(e, s)) {
				/* All valid: go on as long as there is any room. */
				if (!s->nr_free)
					s->full = true;
				break;
			}
			low = nr_open(s) + 1 + s->geometry.reserve;
		}
	}
	if (s->full || append(e, s, log, p->block, e->clock)) {
		s->full = true;
		return -1;
	}
	s->arm[p->block] = (uint8_t)arm;
	s->stats.user++;
	s->stats.user_by_arm[arm]++;
	return 0;
}

void lfs_store_invalidate(struct lfs_engine *e, struct store *s, uint32_t block)
{
	uint32_t place = s->map[block];
	uint32_t index = place / s->geometry.segment_blocks;
	struct segment *g;

	if (place == NONE32)
		return;
	g = &s->segments[index];
	g->mtime = (g->mtime * g->valid + e->clock) / (g->valid + 1);
	g->valid--;
	g->last_invalid = (uint32_t)e->clock;
	s->owner[place] = NONE32;
	s->map[block] = NONE32;
	/* An empty segment costs nothing to take back. */
	if (!g->valid && g->state == SEGMENT_FULL)
		release(e, s, index);
}

int lfs_stats(const struct lfs_engine *e, int store, struct lfs_store_stats *out)
{
	const struct store *s;

	if (store < 0 || (uint32_t)store >= e->nr_stores)
		return -1;
	s = e->stores[store];
	*out = s->stats;
	out->free_segments = s->nr_free;
	out->open_logs = nr_open(s);
	out->sepbit_life = s->sepbit_life;
	out->valid = 0;
	for (uint32_t i = 0; i < s->geometry.nr_segments; i++)
		if (s->segments[i].state != SEGMENT_FREE)
			out->valid += s->segments[i].valid;
	return 0;
}

int lfs_check(const struct lfs_engine *e, int store)
{
	const struct store *s;
	uint32_t size, nr_free = 0;
	uint64_t mapped = 0, valid = 0;

	if (store < 0 || (uint32_t)store >= e->nr_stores)
		return -1;
	s = e->stores[store];
	size = s->geometry.segment_blocks;
	for (uint32_t b = 0; b < e->nr_blocks; b++) {
		bool sampled = e->blocks[b].slice % s->share == s->slice;

		if ((s->map[b] != NONE32) != (e->blocks[b].live && sampled))
			return 1;
		if (s->map[b] == NONE32)
			continue;
		mapped++;
		if (s->owner[s->map[b]] != b)
			return 2;
	}
	for (uint32_t i = 0; i < s->geometry.nr_segments; i++) {
		const struct segment *g = &s->segments[i];
		uint32_t n = 0;

		if (g->state == SEGMENT_FREE) {
			nr_free++;
			continue;
		}
		for (uint32_t k = 0; k < size; k++)
			n += s->owner[i * size + k] != NONE32;
		if (n != g->valid)
			return 3;
		if (g->fill > size || (g->state == SEGMENT_FULL) != (g->fill == size))
			return 4;
		valid += n;
	}
	if (nr_free != s->nr_free)
		return 5;
	return mapped == valid ? 0 : 6;
}
