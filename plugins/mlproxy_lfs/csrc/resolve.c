// SPDX-License-Identifier: MIT
/* From (file, block) pairs to block numbers that are used again after TRIM. */
#include <stdlib.h>
#include <string.h>
#include "engine.h"

#define NR_SIZES	96
#define MAX_FILE	(1u << 30)
#define MAX_USED	(1u << 31)

/* Files are given extents of a few sizes, so that one fits the next. */
static uint32_t size_class(uint32_t blocks, uint32_t *rounded)
{
	uint32_t size = 1, index = 0;

	if (blocks <= 1) {
		*rounded = 1;
		return 0;
	}
	/* Powers of two and the halves between them. */
	while (size < blocks) {
		uint32_t half = size + size / 2;

		index += 2;
		if (size > 1 && half >= blocks) {
			*rounded = half;
			return index - 1;
		}
		size *= 2;
	}
	*rounded = size;
	return index;
}

struct extents {
	uint32_t *heads[NR_SIZES];
	uint32_t n[NR_SIZES], room[NR_SIZES];
};

static int give_back(struct extents *x, uint32_t index, uint32_t base)
{
	if (x->n[index] == x->room[index]) {
		uint32_t room = x->room[index] ? 2 * x->room[index] : 64;
		uint32_t *more = realloc(x->heads[index], room * sizeof(*more));

		if (!more)
			return -1;
		x->heads[index] = more;
		x->room[index] = room;
	}
	x->heads[index][x->n[index]++] = base;
	return 0;
}

uint32_t lfs_resolve(uint64_t n, const uint8_t *op, const int32_t *file,
		     const int32_t *block, const int32_t *count, uint32_t nr_files,
		     const uint32_t *file_blocks, struct lfs_op *out)
{
	struct extents x = { 0 };
	uint32_t *base = malloc((size_t)nr_files * sizeof(*base) + 1);
	uint32_t *live = calloc((size_t)nr_files + 1, sizeof(*live));
	uint8_t *bitmap = NULL;
	uint32_t used = 0;
	size_t room = 0;

	if (!base || !live)
		goto fail;
	memset(base, 0xff, (size_t)nr_files * sizeof(*base));
	for (uint64_t i = 0; i < n; i++) {
		uint32_t f = (uint32_t)file[i], rounded, index;

		if (file[i] < 0 || f >= nr_files || block[i] < 0 || count[i] < 0 ||
		    file_blocks[f] > MAX_FILE ||
		    (uint64_t)block[i] + count[i] > file_blocks[f])
			goto fail;
		index = size_class(file_blocks[f], &rounded);
		out[i] = (struct lfs_op){ .file = f, .trim = op[i] };
		if (base[f] == NONE32) {
			if (op[i])
				continue;	/* trims nothing: count 0 */
			if (x.n[index]) {
				base[f] = x.heads[index][--x.n[index]];
			} else {
				if (rounded > MAX_USED - used)
					goto fail;
				base[f] = used;
				used += rounded;
			}
			if (used > room) {
				size_t more = (size_t)used + used / 2 + 4096;
				uint8_t *grown = realloc(bitmap, more);

				if (!grown)
					goto fail;
				memset(grown + room, 0, more - room);
				bitmap = grown;
				room = more;
			}
		}
		out[i].block = base[f] + (uint32_t)block[i];
		out[i].count = (uint32_t)count[i];
		for (uint32_t k = out[i].block; k < out[i].block + out[i].count; k++) {
			live[f] += !op[i] && !bitmap[k];
			live[f] -= op[i] && bitmap[k];
			bitmap[k] = !op[i];
		}
		if (op[i] && !live[f]) {
			if (give_back(&x, index, base[f]))
				goto fail;
			base[f] = NONE32;
		}
	}
	goto out;
fail:
	used = 0;
out:
	for (int i = 0; i < NR_SIZES; i++)
		free(x.heads[i]);
	free(base);
	free(live);
	free(bitmap);
	return used;
}

uint64_t lfs_deaths(const struct lfs_op *ops, uint64_t n, uint32_t nr_blocks,
		    uint32_t *deaths, uint64_t max)
{
	uint32_t *last = malloc((size_t)nr_blocks * sizeof(*last) + 1);
	uint64_t clock = 0;

	if (!last)
		return 0;
	memset(last, 0xff, (size_t)nr_blocks * sizeof(*last));
	for (uint64_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < ops[i].count; k++) {
			uint32_t b = ops[i].block + k;

			if (b >= nr_blocks)
				goto out;
			if (last[b] != NONE32)
				deaths[last[b]] = (uint32_t)clock;
			last[b] = NONE32;
			if (ops[i].trim)
				continue;
			if (clock == max)
				goto out;
			deaths[clock] = NONE32;
			last[b] = (uint32_t)clock++;
		}
	}
out:
	free(last);
	return clock;
}
