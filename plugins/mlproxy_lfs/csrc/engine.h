/* SPDX-License-Identifier: MIT */
/* What the files of the simulator share; not seen by Python. */
#ifndef LFS_ENGINE_H
#define LFS_ENGINE_H

#include <stdbool.h>
#include "store.h"

#define NONE32		UINT32_MAX
#define NONE16		UINT16_MAX
#define NR_SLICES	64	/* finest share of a twin */

typedef int32_t (*program_eval_fn)(const void *program, const int32_t *features,
				   uint32_t *confidence);
typedef void (*decide_fn)(void *proxy, uint32_t stream, const int32_t *features,
			  uint64_t unit, int32_t default_action, uint64_t now,
			  void *decision);
typedef void (*publish_fn)(void *proxy, const void *record);

/* History of one block; the same for every store. */
struct block {
	uint32_t birth;		/* clock of the last write */
	uint32_t file;
	uint32_t pending;	/* newest sample that waits for its death */
	uint16_t life;		/* last lifetime, log16; NONE16 */
	uint16_t avg;		/* average lifetime, log2 in 1/256; NONE16 */
	uint8_t live;
	uint8_t slice;
};

/* A slow average of log2 lifetimes (1/256), exact mean while young. */
struct average {
	int32_t value;		/* 1/65536 of log2 */
	uint32_t count;
};

/* A sampled write or move, waiting for the horizon. */
struct pending {
	int32_t features[LFS_NR_FEATURES];
	uint32_t block;
	uint32_t at;
	uint32_t died;		/* NONE32: not yet */
	uint32_t next;		/* next sample of the same block */
	uint32_t action;
};

/* FIFO of pending samples; ids are positions, modulo the size. */
struct pending_queue {
	struct pending *slots;
	uint32_t size;		/* power of two */
	uint64_t head;
	uint64_t tail;
	uint64_t horizon;
	uint32_t every;
	uint32_t countdown;
	uint64_t dropped;
};

enum segment_state {
	SEGMENT_FREE,
	SEGMENT_OPEN,
	SEGMENT_FULL,
};

struct segment {
	uint32_t valid;
	uint32_t fill;
	uint32_t opened;	/* clock */
	uint32_t closed;	/* clock */
	uint32_t last_invalid;
	uint64_t mtime;		/* F2FS's running mean */
	uint8_t state;
	uint8_t log;
};

/* One write as placement sees it. */
struct placing {
	const int32_t *features;
	uint32_t block;
	uint32_t stream;
	uint32_t life;		/* last lifetime in writes, NONE32 when new */
	uint32_t age;		/* GC: since the last write */
	uint32_t origin;	/* GC: log it comes from */
	uint32_t death;		/* clairvoyance: clock of death */
};

struct store {
	struct lfs_geometry geometry;
	uint32_t share, slice;
	int placement, victim;
	uint64_t dither;	/* 0: none */
	struct segment *segments;
	uint32_t *map;		/* block -> physical place, NONE32 */
	uint32_t *owner;	/* physical place -> block */
	uint8_t *arm;		/* block -> arm that placed it */
	uint32_t *free_list;
	uint32_t nr_free;
	uint32_t open[LFS_MAX_LOGS];		/* segment or NONE32 */
	uint32_t last_used[LFS_MAX_LOGS];	/* clock */
	void *program[2];
	/* SepBIT: mean lifespan of the last 16 collected class-1 segments */
	uint64_t sepbit_sum;
	uint32_t sepbit_n, sepbit_life;
	struct lfs_store_stats stats;
	bool full;
};

struct lfs_engine {
	uint32_t nr_blocks, nr_files;
	struct block *blocks;
	struct lfs_file *files;
	struct average *file_avg, *tenant_avg, *dir_avg, *class_avg;
	uint64_t capacity, seed;
	uint64_t clock;
	struct store *stores[LFS_MAX_STORES];
	uint32_t nr_stores;
	uint8_t in_slice[NR_SLICES][LFS_MAX_STORES];
	uint8_t nr_in_slice[NR_SLICES];
	struct lfs_core core;
	struct pending_queue queue[2];
	int gc_store;
	uint32_t live_every;
	const uint32_t *deaths;
	uint64_t nr_deaths;
	uint32_t *death_of;	/* block -> clock of death */
	uint32_t cuts[LFS_MAX_LOGS];
	uint32_t nr_cuts;
	uint64_t op_at;		/* which operation was begun, ... */
	uint32_t done_in_op;	/* ... and how many of its blocks are done */
	bool broken;		/* a store ran full */
};

static inline uint64_t mix64(uint64_t x)
{
	/* splitmix64 finaliser (Steele, Lea, Flood 2014) */
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* engine.c */
void lfs_gc_features(struct lfs_engine *e, uint32_t block, uint32_t origin,
		     int32_t *features);
void lfs_sample_move(struct lfs_engine *e, const struct placing *p, int action);
int32_t lfs_average(const struct average *a);

/* store.c */
int lfs_store_init(struct store *s, const struct lfs_geometry *g,
		   uint32_t nr_blocks);
void lfs_store_free(struct store *s);
int lfs_store_write(struct lfs_engine *e, struct store *s, struct placing *p);
void lfs_store_invalidate(struct lfs_engine *e, struct store *s, uint32_t block);

/* place.c */
uint32_t lfs_place(struct lfs_engine *e, struct store *s, struct placing *p,
		   uint32_t *arm, int *action);

/* victim.c */
uint32_t lfs_pick_victim(const struct lfs_engine *e, const struct store *s);

#endif
