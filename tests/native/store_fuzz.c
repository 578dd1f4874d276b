// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random walks over the simulated store, under ASan and UBSan.
 *
 *	store_fuzz SECONDS SEED		until the time is over
 *	store_fuzz 0 SEED COUNT		exactly COUNT walks
 *	store_fuzz place LIFE		SepBIT's choices, one a line: stream life age origin log
 *	store_fuzz clock START		counters of a run that begins at this clock
 */
#include <time.h>

#include "common.h"
#include "../../plugins/mlproxy_lfs/csrc/engine.h"

#define MAX_OPS 600

static __u64 rng, walk_seed;

static __u32 below(__u64 n)
{
	return (__u32)(draw(&rng) % n);
}

static __u32 hostile(void)
{
	static const __u32 values[] = { 0, 1, 2, 63, 64, 65, 0x7fffffff, 0x80000000, 0xfffffffe,
					0xffffffff };

	return values[below(sizeof(values) / sizeof(*values))];
}

/* Mostly in range. */
static __u32 mostly(__u32 n)
{
	return below(40) ? below(n) : hostile();
}

static __u32 make_program(char *out, __u32 stream, __u32 nr_features)
{
	struct mlp_program *h = (void *)out;
	struct mlp_node *nodes = (void *)(h + 1);
	__u32 i, n = 1 + 2 * below(20);

	memset(h, 0, sizeof(*h) + n * sizeof(*nodes));
	h->nr_nodes = n;
	h->nr_trees = 1;
	h->nr_features = (__u16)nr_features;
	h->stream = (__u16)stream;
	for (i = 0; i < n; i++) {
		if (2 * i + 2 < n) {
			nodes[i].feature = (__u16)below(nr_features);
			nodes[i].left = (__u16)(2 * i + 1);
			nodes[i].right = (__u16)(2 * i + 2);
			nodes[i].value = (__s32)below(400);
		} else {
			nodes[i].feature = MLP_LEAF;
			nodes[i].value = (__s32)below(6) - !below(30) * (__s32)below(1000000);
		}
	}
	return (__u32)(sizeof(*h) + n * sizeof(*nodes));
}

static void submit(struct rig *rig, __u64 *seq, __u64 now)
{
	static char buffer[4096] __attribute__((aligned(8)));
	struct mlp_recommendation *r = (void *)buffer;

	memset(r, 0, sizeof(*r));
	r->struct_len = sizeof(*r);
	r->abi_version = MLP_ABI_VERSION;
	r->kind = MLP_KIND_PROGRAM;
	r->model_id = 1;
	r->model_version = 1;
	r->seq = ++*seq;
	r->expiry = now + 900;
	r->length = (__u32)sizeof(*r) + make_program(buffer + sizeof(*r), below(2), LFS_NR_FEATURES);
	mlp_submit(rig->p, buffer, r->length, now);
}

static void set_program(struct lfs_engine *e, int store)
{
	static char buffer[4096] __attribute__((aligned(8)));
	__u32 stream = below(3), features = 1 + below(below(8) ? LFS_NR_FEATURES : 16);
	__u32 len = make_program(buffer, stream, features);
	char *exact;
	int err;

	if (!below(10)) {
		CHECK(!lfs_set_program(e, 0, below(2), NULL, 0) == (e->nr_stores > 0));
		return;
	}
	if (!below(10))
		len = below(sizeof(struct mlp_program));
	else if (mlp_program_check(buffer, len, NULL))
		return;
	exact = malloc(len + 1);
	memcpy(exact, buffer, len);
	err = lfs_set_program(e, store, stream, exact, len);
	free(exact);
	if (stream > 1 || (len && features > LFS_NR_FEATURES) || store < 0 ||
	    (__u32)store >= e->nr_stores)
		CHECK(err);
}

static void resolve(void)
{
	__u32 n = below(200), nr_files = 1 + below(8), used, writes = 0;
	__u8 *op = malloc(n + 1);
	__s32 *file = malloc(4 * n + 4), *block = malloc(4 * n + 4), *count = malloc(4 * n + 4);
	__u32 *size = malloc(4 * nr_files), *deaths;
	struct lfs_op *out = malloc(n * sizeof(*out) + 1);

	for (__u32 i = 0; i < nr_files; i++)
		size[i] = below(100) ? below(64) : hostile();
	for (__u32 i = 0; i < n; i++) {
		op[i] = (__u8)!below(3);
		file[i] = (__s32)(below(2000) ? below(nr_files) : hostile());
		block[i] = count[i] = 0;
		if (file[i] >= 0 && (__u32)file[i] < nr_files && size[file[i]] &&
		    size[file[i]] < 64) {
			block[i] = (__s32)below(size[file[i]]);
			count[i] = (__s32)below(size[file[i]] - (__u32)block[i] + 1);
		}
		if (!below(2000))
			count[i] = (__s32)hostile();
		if (!below(2000))
			block[i] = (__s32)hostile();
	}
	used = lfs_resolve(n, op, file, block, count, nr_files, size, out);
	for (__u32 i = 0; used && i < n; i++) {
		CHECK((__u64)out[i].block + out[i].count <= used);
		writes += out[i].trim ? 0 : out[i].count;
	}
	deaths = malloc(4 * writes + 4);
	if (used) {
		CHECK(lfs_deaths(out, n, used, deaths, writes) == writes);
		lfs_deaths(out, n, below(used), deaths, writes);
		lfs_deaths(out, n, used, deaths, below(writes + 1));
	}
	free(op);
	free(file);
	free(block);
	free(count);
	free(size);
	free(out);
	free(deaths);
}

static void hostile_setters(struct lfs_engine *e)
{
	int store = (int)hostile(), bad = store < 0 || (__u32)store >= e->nr_stores;
	struct lfs_store_stats stats;
	int value = (int)hostile();

	CHECK(!lfs_set_victim(e, store, value) == (!bad && value >= 0 && value < LFS_VICTIM_NR));
	value = (int)hostile();
	if (value != LFS_PLACE_PROXY)
		CHECK(!lfs_set_placement(e, store, value) ==
		      (!bad && value >= 0 && value < LFS_PLACE_NR));
	CHECK(!lfs_set_dither(e, store, draw(&rng)) == !bad);
	CHECK(!lfs_stats(e, store, &stats) == !bad);
	CHECK(bad ? lfs_check(e, store) == -1 : 1);
}

static void walk(__u64 seed)
{
	__u32 nr_blocks, nr_files, nr_ops, groups[3], wild, outside = 0;
	struct lfs_core core = { 0 };
	struct mlp_config cfg = config_of(MLP_KIND_PROGRAM);
	struct lfs_file *files;
	struct lfs_op *ops;
	struct lfs_engine *e;
	__u64 writes = 0, seq = 0, until = 0;
	uint64_t at = 0;
	__u32 *deaths, cuts[3] = { 4, 30, 200 };
	struct rig rig;
	int err = 0;

	rng = walk_seed = seed;
	nr_ops = 1 + below(MAX_OPS);
	resolve();
	nr_blocks = 1 + below(500);
	nr_files = 1 + below(5);
	files = malloc(nr_files * sizeof(*files));
	for (__u32 i = 0; i < 3; i++)
		groups[i] = 1 + below(4);
	wild = !below(10);
	for (__u32 i = 0; i < nr_files; i++)
		files[i] = (struct lfs_file){
			.tenant = (__s32)(wild ? mostly(8) : below(groups[0])),
			.dir = (__s32)below(groups[1]),
			.cls = (__s32)below(groups[2]),
			.blocks = below(1000),
		};
	e = lfs_new(nr_blocks, nr_files, files, groups[0], groups[1], groups[2], nr_blocks,
		    draw(&rng));
	free(files);
	CHECK(e || wild);
	if (!e)
		return;

	cfg.nr_features = LFS_NR_FEATURES;
	cfg.nr_streams = 2;
	cfg.max = 5;
	cfg.twin_gate = 0;
	rig_up(&rig, &cfg, 64);
	mlp_start(rig.p, 0);
	mlp_set_mode(rig.p, 1 + below(3), 1, 0);
	core.proxy = rig.p;
	core.decide = (void *)mlp_decide;
	core.publish = (void *)mlp_publish;
	core.program_eval = (void *)mlp_program_eval;
	if (below(10))
		lfs_set_core(e, &core);

	for (__u32 n = 1 + below(below(4) ? 3 : 20); n; n--) {
		struct lfs_geometry g = {
			.nr_segments = 16 + below(40),
			.segment_blocks = 1 + below(32),
			.reserve = below(4),
		};
		__u32 share = 1u << below(below(3) ? 1 : 7);

		/* Room for all, or hardly. */
		if (below(4) && (g.nr_segments - 12) * g.segment_blocks < nr_blocks)
			g.segment_blocks = nr_blocks / (g.nr_segments - 12) + 1;
		if (!below(8))
			g.segment_blocks = below(2) ? 0 : hostile();
		if (!below(8))
			g.nr_segments = below(2) ? 0 : hostile();
		if (!below(8))
			g.reserve = hostile();
		if ((__u64)g.nr_segments * g.segment_blocks > 1 << 20 && g.nr_segments < 1 << 20)
			g.nr_segments = 0;
		if ((__u64)g.nr_segments * g.segment_blocks < 0xffffffff && g.nr_segments > 1 << 20)
			g.nr_segments = 0;
		lfs_add_store(e, &g, below(8) ? share : hostile(), below(share),
			      (int)mostly(LFS_PLACE_NR), (int)mostly(LFS_VICTIM_NR));
	}
	if (below(2))
		lfs_set_labels(e, below(20), below(20), below(20),
			       below(20) ? 1 + below(300) : hostile() % 1000,
			       (int)mostly(e->nr_stores + 1));
	ops = malloc(nr_ops * sizeof(*ops));
	wild = !below(10);
	for (__u32 i = 0; i < nr_ops; i++) {
		ops[i].block = below(4) ? below(nr_blocks) : below(nr_blocks) / 8;
		ops[i].count = below(nr_blocks - ops[i].block + 1);
		if (below(3))
			ops[i].count %= 8;
		ops[i].trim = !below(6);
		ops[i].file = below(nr_files);
		if (wild && !below(50))
			*(below(2) ? &ops[i].block : below(2) ? &ops[i].count : &ops[i].file) = hostile();
		outside |= ops[i].file >= nr_files ||
			(__u64)ops[i].block + ops[i].count > nr_blocks;
		writes += ops[i].trim || outside ? 0 : ops[i].count;
	}
	deaths = malloc(4 * writes + 4);
	if (below(2) && !outside) {
		CHECK(lfs_deaths(ops, nr_ops, nr_blocks, deaths, writes) == writes);
		CHECK(!lfs_set_future(e, deaths, writes, cuts, below(4)));
	}
	if (below(2))
		e->clock = 0x100000000ULL - below(2 * writes + 2);
	until = e->clock;
	while (at < nr_ops && !err) {
		until += 1 + below(200);
		err = lfs_run(e, ops, nr_ops, &at, until);
		for (__u32 i = 0; i < e->nr_stores && err != -1; i++)
			CHECK(!lfs_check(e, (int)i));
		hostile_setters(e);
		set_program(e, (int)mostly(e->nr_stores + 1));
		submit(&rig, &seq, e->clock);
		mlp_consume(rig.p, below(64));
		if (!below(20))
			mlp_set_mode(rig.p, 1 + below(3), 1, e->clock);
		if (!below(20))
			at = 0;
		if (!below(40))
			break;
	}
	CHECK(err != -2 || outside);
	if (err == -1) {
		at = 0;
		CHECK(lfs_run(e, ops, nr_ops, &at, until + 9) == -1);
	}
	lfs_free(e);
	free(ops);
	free(deaths);
	rig_down(&rig);
}

/* Places blocks of many lives and ages as SepBIT does. */
static void print_places(__u32 mean)
{
	static const struct lfs_file file = { .blocks = 1 };
	const struct lfs_geometry g = { 16, 4, 1 };
	struct lfs_engine *e = lfs_new(1, 1, &file, 1, 1, 1, 64, 1);
	int action;
	__u32 arm;

	CHECK(!lfs_add_store(e, &g, 1, 0, LFS_PLACE_SEPBIT, 0));
	e->stores[0]->sepbit_life = mean;
	for (__u32 i = 0; i < 400; i++) {
		/* Around the thresholds and over all orders of magnitude. */
		__u32 time = i < 200 ? i * mean / 8 : mean / 64 * (i - 199);

		for (__u32 origin = 0; origin < 6; origin++) {
			struct placing p = { .stream = LFS_STREAM_GC, .age = time, .origin = origin };

			printf("1 0 %u %u %u\n", time, origin,
			       lfs_place(e, e->stores[0], &p, &arm, &action));
		}
		struct placing p = { .stream = LFS_STREAM_USER, .life = i ? time : NONE32 };

		printf("0 %lld 0 0 %u\n", i ? (long long)time : -1,
		       lfs_place(e, e->stores[0], &p, &arm, &action));
	}
	lfs_free(e);
}

/* What happens must not depend on when the counting began. */
static void print_run(__u64 start)
{
	enum { BLOCKS = 3500, FILES = 2 };
	static const struct lfs_file files[FILES] = { { .blocks = 9 }, { .dir = 1, .blocks = 999 } };
	const struct lfs_geometry g = { 128, 32, 3 };
	struct lfs_engine *e = lfs_new(BLOCKS, FILES, files, 1, 2, 1, BLOCKS, 1);
	struct lfs_store_stats stats;
	uint64_t at;

	for (int placement = 0; placement < 2; placement++)
		for (int victim = 0; victim < LFS_VICTIM_NR; victim++)
			CHECK(lfs_add_store(e, &g, 1, 0, placement, victim) >= 0);
	CHECK(!lfs_set_labels(e, 10, 10, 10, 500, 0));
	e->clock = start;
	rng = 7;
	for (__u32 i = 0; i < 30000; i++) {
		__u32 hot = i >= BLOCKS && below(10);
		struct lfs_op op = {
			.block = i < BLOCKS ? i : hot ? below(BLOCKS / 10) : below(BLOCKS),
			.file = hot != 0, .count = 1,
		};

		at = 0;
		CHECK(!lfs_run(e, &op, 1, &at, ~0ULL));
	}
	for (__u32 i = 0; i < e->nr_stores; i++) {
		CHECK(!lfs_check(e, (int)i));
		CHECK(!lfs_stats(e, (int)i, &stats));
		printf("%llu %llu %u %u\n", (unsigned long long)stats.moved,
		       (unsigned long long)stats.cleaned, stats.open_logs, stats.sepbit_life);
	}
	printf("%d\n", lfs_average(&e->file_avg[1]));
	/* A count that goes round must not become a window of nothing. */
	e->file_avg[1].count = 0xffffffff - 3;
	for (__u32 i = 0; i < 20; i++) {
		struct lfs_op op = { .block = i, .file = 1, .count = 1 };

		at = 0;
		CHECK(!lfs_run(e, &op, 1, &at, ~0ULL));
	}
	CHECK(e->file_avg[1].count > 1000);
	lfs_free(e);
}

void __asan_on_error(void);
void __asan_on_error(void)
{
	fprintf(stderr, "failing walk: store_fuzz 0 %llu 1\n", walk_seed);
}

static void at_exit(void)
{
	if (walk_seed)
		__asan_on_error();
}

int main(int argc, char **argv)
{
	time_t end;
	__u64 seed, count, done = 0;

	if (argc > 2 && !strcmp(argv[1], "place")) {
		print_places((__u32)atol(argv[2]));
		return 0;
	}
	if (argc > 2 && !strcmp(argv[1], "clock")) {
		print_run(strtoull(argv[2], NULL, 0));
		return 0;
	}
	end = time(NULL) + (argc > 1 ? atol(argv[1]) : 1);
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	count = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	atexit(at_exit);
	for (; count ? done < count : time(NULL) < end; done++)
		walk(seed + done);
	walk_seed = 0;
	printf("%llu walks, no finding\n", done);
	return 0;
}
