/* SPDX-License-Identifier: MIT */
/*
 * A log-structured store in user space: segments, logs, cleaning, TRIM; with
 * the history that placement features are made of, and twins beside it.
 *
 * One engine = one stream of block writes fed to several stores at once: the
 * main store, and twins (small stores that see a hashed share of the blocks,
 * each with a placement of its own). Block history does not depend on
 * placement, so it is kept once and shared.
 *
 * The clock is the number of user block writes.
 */
#ifndef LFS_STORE_H
#define LFS_STORE_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
#define LFS_MAX_LOGS		8
#define LFS_MODEL_LOGS		6	/* logs 0..5: the model's arm */
#define LFS_GC_LOG		3	/* first of them for relocated blocks */
#define LFS_DEFAULT_LOG		6	/* default arm: 6 user, 7 GC */
#define LFS_NR_FEATURES		11
#define LFS_MAX_STORES		16

enum lfs_stream {
	LFS_STREAM_USER		= 0,
	LFS_STREAM_GC		= 1,
};

/* Feature indices; log2 quantities are in 1/16, see lfs_log16(). */
enum lfs_feature {
	LFS_F_LIFE		= 0,	/* last lifetime of the block */
	LFS_F_BLOCK_AVG		= 1,	/* average of its lifetimes */
	LFS_F_TENANT_AVG	= 2,	/* of the tenant's blocks */
	LFS_F_DIR_AVG		= 3,	/* of the directory's */
	LFS_F_CLASS_AVG		= 4,	/* of the file class's */
	LFS_F_FILE_AVG		= 5,	/* of the file's */
	LFS_F_SIZE		= 6,	/* log2 of file size in blocks */
	LFS_F_RUN		= 7,	/* log2 of the write's length in blocks */
	LFS_F_NEW		= 8,	/* 1: first write of the block */
	LFS_F_AGE		= 9,	/* GC: time since the last write */
	LFS_F_ORIGIN		= 10,	/* GC: log that the block comes from */
};

enum lfs_victim {
	LFS_VICTIM_GREEDY	= 0,
	LFS_VICTIM_COST_BENEFIT	= 1,
	LFS_VICTIM_LAST_INVALID	= 2,	/* cost-benefit, age by last invalidation */
	LFS_VICTIM_F2FS_CB	= 3,	/* F2FS's cost-benefit */
	LFS_VICTIM_F2FS_MIX	= 4,	/* cost-benefit in background, greedy in foreground */
	LFS_VICTIM_NR		= 5,
};

enum lfs_placement {
	LFS_PLACE_TWO_LOGS	= 0,	/* the default: user log, GC log */
	LFS_PLACE_SEPBIT	= 1,
	LFS_PLACE_CLAIRVOYANT	= 2,
	LFS_PLACE_PROGRAM	= 3,	/* a program per stream, no proxy */
	LFS_PLACE_PROXY		= 4,	/* mlp_decide() of a proxy */
	LFS_PLACE_ONE_LOG	= 5,
	LFS_PLACE_NR		= 6,
};

struct lfs_geometry {
	uint32_t nr_segments;
	uint32_t segment_blocks;
	uint32_t reserve;	/* free segments kept beyond the open logs */
};

struct lfs_store_stats {
	uint64_t user;		/* blocks written by the user */
	uint64_t moved;		/* blocks relocated by cleaning */
	uint64_t cleaned;	/* segments cleaned */
	uint64_t placed[8];	/* blocks by log, user and GC */
	uint32_t free_segments;
	uint32_t open_logs;
	uint32_t valid;		/* live blocks */
	uint32_t sepbit_life;	/* SepBIT's average lifespan, in writes */
	uint64_t moved_by_arm[2];	/* moves charged to the arm that placed the block */
	uint64_t user_by_arm[2];
};

/* One write or trim of consecutive blocks. */
struct lfs_op {
	uint32_t block;		/* first block (engine's own numbering) */
	uint32_t file;
	uint32_t count;
	uint32_t trim;		/* 1: trim, 0: write */
};

/* What the features need to know of a file. */
struct lfs_file {
	int32_t tenant;
	int32_t dir;
	int32_t cls;
	uint32_t blocks;
};

/* Functions of the proxy core, called on the decision path. */
struct lfs_core {
	void *proxy;
	void *decide;
	void *publish;
	void *program_eval;
};

struct lfs_engine;

struct lfs_engine *lfs_new(uint32_t nr_blocks, uint32_t nr_files,
			   const struct lfs_file *files, uint32_t nr_tenants,
			   uint32_t nr_dirs, uint32_t nr_classes,
			   uint64_t capacity, uint64_t seed);
void lfs_free(struct lfs_engine *e);

/*
 * Returns the store's index or -1. Store 0 is the main one (share 1). Stores are
 * added before the first write.
 *
 * Setters return 0, or -1 for a store or a value that does not exist.
 */
int lfs_add_store(struct lfs_engine *e, const struct lfs_geometry *g,
		  uint32_t share, uint32_t slice, int placement, int victim);
/* The program must have passed mlp_program_check(); it is copied. */
int lfs_set_program(struct lfs_engine *e, int store, uint32_t stream,
		    const void *program, uint64_t len);
int lfs_set_victim(struct lfs_engine *e, int store, int victim);
int lfs_set_placement(struct lfs_engine *e, int store, int placement);
/* Dithers the victim scores of cost-benefit by up to 2% (A/A trials). */
int lfs_set_dither(struct lfs_engine *e, int store, uint64_t seed);
void lfs_set_core(struct lfs_engine *e, const struct lfs_core *core);
/*
 * Labels: one in `every_user` writes, one in `every_gc` relocations of
 * `gc_store` (-1: of none) and, every `every_live` writes, one block drawn at
 * random stand for all; each is released `horizon` writes later. -1: no such
 * store, a horizon of 0 or beyond 2^27, or no memory.
 */
int lfs_set_labels(struct lfs_engine *e, uint32_t every_user, uint32_t every_gc,
		    uint32_t every_live, uint64_t horizon, int gc_store);
/* deaths[i]: clock at which the i-th user block write dies (clairvoyance). */
int lfs_set_future(struct lfs_engine *e, const uint32_t *deaths, uint64_t n,
		    const uint32_t *cuts, uint32_t nr_cuts);

/*
 * Runs ops [*at, n) until `until` user writes; 0, or -1 when out of space (for
 * good), -2 when an operation lies outside of the blocks or files, -3 when a
 * store's placement needs a core that is not connected.
 */
int lfs_run(struct lfs_engine *e, const struct lfs_op *ops, uint64_t n,
	    uint64_t *at, uint64_t until);
uint64_t lfs_clock(const struct lfs_engine *e);
int lfs_stats(const struct lfs_engine *e, int store, struct lfs_store_stats *out);
/* Walks everything; returns 0, the number of the broken invariant, or -1: no store. */
int lfs_check(const struct lfs_engine *e, int store);

/* Gives (file, block) pairs the engine's block numbers; returns how many
 * numbers are in use at most, or 0 on bad input. bases: one per file, scratch. */
uint32_t lfs_resolve(uint64_t n, const uint8_t *op, const int32_t *file,
		     const int32_t *block, const int32_t *count,
		     uint32_t nr_files, const uint32_t *file_blocks,
		     struct lfs_op *out);
/* Death clock of each user block write (UINT32_MAX: never); returns the writes. */
uint64_t lfs_deaths(const struct lfs_op *ops, uint64_t n, uint32_t nr_blocks,
		    uint32_t *deaths, uint64_t max);
int32_t lfs_log16(uint64_t x);
/* cffi: end */

#endif
