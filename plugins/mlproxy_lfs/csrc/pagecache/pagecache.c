// SPDX-License-Identifier: MIT
#include "pagecache.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 4096

/* The events of a trace: docs/reference/trace-format.md. */
enum { EV_CREATE, EV_WRITE, EV_TRUNCATE, EV_DELETE, EV_REPLACE, EV_SYNC, EV_MAP, EV_PUNCH,
       EV_ALLOCATE, EV_SYNC_ALL, EV_UNKNOWN };

enum { RUN_WRITE, RUN_TRIM };

#define DIRTY 1	/* in the cache, newer than the store */
#define STORED 2 /* on the store */

struct file {
	int64_t size;
	int32_t dirty;		/* number of dirty blocks */
	int32_t low, high;	/* all dirty blocks are in [low, high) */
	int32_t stored_high;	/* all stored blocks are below */
	int32_t prev, next;	/* list of dirty files, dirtied longest ago first */
};

struct cache {
	struct file *files;
	const int64_t *base;
	uint8_t *flags;
	int32_t nr_files;	/* the list's head is files[nr_files] */
	int32_t dirty, limit;
	struct pc_runs *out;
};

static int emit(struct pc_runs *out, uint8_t op, int32_t file, int32_t block, int32_t count)
{
	if (out->nr >= out->room)
		return -1;
	out->op[out->nr] = op;
	out->file[out->nr] = file;
	out->block[out->nr] = block;
	out->count[out->nr] = count;
	out->nr++;
	return 0;
}

static void list_del(struct cache *c, struct file *f)
{
	c->files[f->prev].next = f->next;
	c->files[f->next].prev = f->prev;
}

static void list_add_tail(struct cache *c, int32_t id)
{
	struct file *head = &c->files[c->nr_files], *f = &c->files[id];

	f->prev = head->prev;
	f->next = c->nr_files;
	c->files[head->prev].next = id;
	head->prev = id;
}

static void cleaned(struct cache *c, struct file *f, int32_t blocks)
{
	c->dirty -= blocks;
	f->dirty -= blocks;
	if (blocks && !f->dirty)
		list_del(c, f);
}

/* Few blocks of a large file are dirty: look at eight at a time. */
static int32_t next_dirty(const uint8_t *flags, int32_t b, int32_t to)
{
	uint64_t eight;

	while (to - b >= 8) {
		memcpy(&eight, flags + b, sizeof(eight));
		if (eight & 0x0101010101010101ULL * DIRTY)
			break;
		b += 8;
	}
	while (b < to && !(flags[b] & DIRTY))
		b++;
	return b;
}

/* Write the dirty blocks of a file in [from, to), in order. */
static int flush(struct cache *c, int32_t id, int32_t from, int32_t to)
{
	struct file *f = &c->files[id];
	uint8_t *flags = c->flags + c->base[id];
	int32_t b, start, blocks = 0;

	if (!f->dirty)
		return 0;
	if (from < f->low)
		from = f->low;
	if (to > f->high)
		to = f->high;
	for (b = next_dirty(flags, from, to); b < to; b = next_dirty(flags, b, to)) {
		for (start = b; b < to && flags[b] & DIRTY; b++)
			flags[b] = STORED;
		if (emit(c->out, RUN_WRITE, id, start, b - start))
			return -1;
		if (f->stored_high < b)
			f->stored_high = b;
		blocks += b - start;
	}
	cleaned(c, f, blocks);
	return 0;
}

static int dirty(struct cache *c, int32_t id, int32_t from, int32_t to)
{
	struct file *f = &c->files[id];
	uint8_t *flags = c->flags + c->base[id];
	int32_t b;

	for (b = from; b < to; b++) {
		if (flags[b] & DIRTY)
			continue;
		if (c->dirty >= c->limit) {
			int32_t oldest = c->files[c->nr_files].next;

			if (flush(c, oldest, 0, INT32_MAX))
				return -1;
		}
		if (!f->dirty) {
			list_add_tail(c, id);
			f->low = b;
			f->high = b + 1;
		}
		if (b < f->low)
			f->low = b;
		if (b >= f->high)
			f->high = b + 1;
		flags[b] |= DIRTY;
		f->dirty++;
		c->dirty++;
	}
	return 0;
}

/* Forget blocks [from, to): dirty ones are never written, stored ones trimmed. */
static int drop(struct cache *c, int32_t id, int32_t from, int32_t to)
{
	struct file *f = &c->files[id];
	uint8_t *flags = c->flags + c->base[id];
	int32_t b, start, blocks = 0, end = f->stored_high;

	if (f->dirty && f->high > end)
		end = f->high;
	if (to > end)
		to = end;
	for (b = from; b < to; b++)
		if (flags[b] & DIRTY) {
			flags[b] &= (uint8_t)~DIRTY;
			blocks++;
		}
	cleaned(c, f, blocks);
	for (b = from; b < to; b++) {
		if (!(flags[b] & STORED))
			continue;
		for (start = b; b < to && flags[b] & STORED; b++)
			flags[b] = 0;
		if (emit(c->out, RUN_TRIM, id, start, b - start))
			return -1;
	}
	if (to >= f->stored_high && from < f->stored_high)
		f->stored_high = from;
	return 0;
}

/* Sizes may be anything that a file can have: past the last block is all the same. */
static int32_t block_of(int64_t bytes)
{
	return bytes / BLOCK < INT32_MAX ? (int32_t)(bytes / BLOCK) : INT32_MAX;
}

static int32_t blocks_up(int64_t bytes)
{
	return block_of(bytes + BLOCK - 1);
}

static int truncate_file(struct cache *c, int32_t id, int64_t size)
{
	struct file *f = &c->files[id];
	int32_t last = block_of(size), end = f->stored_high;
	int failed;

	if (size >= f->size) {
		f->size = size;
		return 0;
	}
	if (f->dirty && f->high > end)
		end = f->high;
	failed = drop(c, id, blocks_up(size), INT32_MAX);
	/* The rest of a block cut in two is zeroed: that is a change to it. */
	if (!failed && size % BLOCK && last < end && c->flags[c->base[id] + last])
		failed = dirty(c, id, last, last + 1);
	f->size = size;
	return failed;
}

static int punch(struct cache *c, int32_t id, int64_t offset, int64_t length)
{
	int64_t end = offset + length;
	int32_t from = blocks_up(offset);
	int32_t to = end >= c->files[id].size ? INT32_MAX : block_of(end);

	return from < to ? drop(c, id, from, to) : 0;
}

static int sync_range(struct cache *c, int32_t id, int64_t offset, int64_t length)
{
	if (!length)
		return flush(c, id, block_of(offset), INT32_MAX);
	return flush(c, id, block_of(offset), blocks_up(offset + length));
}

static int sync_all(struct cache *c)
{
	while (c->files[c->nr_files].next != c->nr_files)
		if (flush(c, c->files[c->nr_files].next, 0, INT32_MAX))
			return -1;
	return 0;
}

static int step(struct cache *c, int op, int32_t id, int64_t offset, int64_t length)
{
	struct file *f = &c->files[id];

	switch (op) {
	case EV_CREATE:
		f->size = length;
		/* What a file held before the recording was on the store. */
		return length ? dirty(c, id, 0, blocks_up(length)) : 0;
	case EV_WRITE:
		if (!length)
			return 0;
		if (offset + length > f->size)
			f->size = offset + length;
		return dirty(c, id, block_of(offset), blocks_up(offset + length));
	case EV_TRUNCATE:
		return truncate_file(c, id, offset);
	case EV_DELETE:
	case EV_REPLACE:
		f->size = 0;
		return drop(c, id, 0, INT32_MAX);
	case EV_SYNC:
		return sync_range(c, id, offset, length);
	case EV_PUNCH:
		return punch(c, id, offset, length);
	case EV_ALLOCATE:
		if (offset + length > f->size)
			f->size = offset + length;
		return 0;
	case EV_SYNC_ALL:
		return sync_all(c);
	default:
		return 0;
	}
}

/*
 * Run events through a cache of `cache_blocks` dirty blocks. base[] has
 * nr_files + 1 entries; a file's blocks must fit between its base and the next.
 * Returns 0, -1 if `out` is too small, -2 if there is no memory.
 */
int pc_run(const struct pc_event_columns *events, const int64_t *base, int32_t nr_files,
	   int32_t cache_blocks, struct pc_runs *out)
{
	struct cache c = { .base = base, .nr_files = nr_files, .limit = cache_blocks, .out = out };
	int failed = 0;
	int64_t i;

	c.files = calloc((size_t)nr_files + 1, sizeof(*c.files));
	c.flags = calloc((size_t)base[nr_files] + 1, 1);
	if (!c.files || !c.flags) {
		failed = -2;
		goto out;
	}
	c.files[nr_files].next = c.files[nr_files].prev = nr_files;
	for (i = 0; i < events->nr && !failed; i++)
		failed = step(&c, events->op[i], (int32_t)events->file[i], events->offset[i],
			      events->length[i]);
	if (!failed)
		failed = sync_all(&c);
out:
	free(c.flags);
	free(c.files);
	return failed;
}

/*
 * Replay runs on live[] (one byte per block of the flat space, 0 or 1), note in
 * change[] by how much each run changes the number of live blocks (may be NULL),
 * and return the highest number of live blocks reached above the start's.
 */
int64_t pc_live(const uint8_t *op, const int32_t *file, const int32_t *block,
		const int32_t *count, int64_t nr, const int64_t *base, uint8_t *live,
		int32_t *change)
{
	int64_t i, now = 0, peak = 0;

	for (i = 0; i < nr; i++) {
		uint8_t *at = live + base[file[i]] + block[i];
		uint8_t value = op[i] == RUN_WRITE;
		int32_t k, changed = 0;

		for (k = 0; k < count[i]; k++) {
			changed += value - at[k];
			at[k] = value;
		}
		if (change)
			change[i] = changed;
		now += changed;
		if (now > peak)
			peak = now;
	}
	return peak;
}
