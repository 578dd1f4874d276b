/* SPDX-License-Identifier: MIT */
/*
 * From file events to block writes: a page cache in front of a block store, and
 * the book-keeping of which blocks of a stream are live.
 *
 * Blocks of all files lie in one flat space: block b of file f is base[f] + b.
 */
#ifndef MLPROXY_PAGECACHE_H
#define MLPROXY_PAGECACHE_H

#include <stdint.h>

/* cffi: begin */
struct pc_event_columns {
	const uint8_t *op;
	const uint32_t *file;
	const int64_t *offset;
	const int64_t *length;
	int64_t nr;
};

struct pc_runs {
	uint8_t *op;
	int32_t *file;
	int32_t *block;
	int32_t *count;
	int64_t nr;
	int64_t room;
};

int pc_run(const struct pc_event_columns *events, const int64_t *base, int32_t nr_files,
	   int32_t cache_blocks, struct pc_runs *out);
int64_t pc_live(const uint8_t *op, const int32_t *file, const int32_t *block,
		const int32_t *count, int64_t nr, const int64_t *base, uint8_t *live,
		int32_t *change);
/* cffi: end */

#endif
