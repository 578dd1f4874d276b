// SPDX-License-Identifier: MIT
/* One stream through several stores: block history, features, labels. */
#include <stdlib.h>
#include <string.h>
#include "engine.h"
#include "mlproxy.h"

#define AVG_ONE		65536	/* of struct average */
#define BLOCK_SHIFT	2	/* a block's own average: weight 1/4 for the last */
#define FILE_SHIFT	7
#define GROUP_SHIFT	9
#define MAX_HORIZON	(1u << 27)
#define CENSORED	384	/* a survivor counts as horizon * 2^1.5 (1/256) */

/* log2(x + 1) in 1/16, rounded down, monotone. */
int32_t lfs_log16(uint64_t x)
{
	/* 16 * log2(1 + i/16), rounded down */
	static const uint8_t frac[16] = {
		0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 12, 13, 14, 15,
	};
	int top;

	x += x < UINT64_MAX;
	top = 63 - __builtin_clzll(x);
	return 16 * top + frac[(top >= 4 ? x >> (top - 4) : x << (4 - top)) & 15];
}

static int32_t log256(uint64_t x)
{
	/* Linear between powers of two: error below 0.09, no table. */
	int top;
	uint64_t rest;

	x++;
	top = 63 - __builtin_clzll(x);
	rest = x - (1ull << top);
	return 256 * top + (int32_t)(top >= 8 ? rest >> (top - 8) : rest << (8 - top));
}

int32_t lfs_average(const struct average *a)
{
	return a->value / (AVG_ONE / 16);
}

static void average_add(struct average *a, int32_t log256_life, uint32_t weight, int shift)
{
	int64_t target = (int64_t)log256_life * (AVG_ONE / 256);
	uint64_t window = 1ull << shift;

	/* Saturates: a count that went round to 0 would be a window of 0. */
	a->count = a->count > UINT32_MAX - weight ? UINT32_MAX : a->count + weight;
	if (a->count < window)
		window = a->count;
	if (weight > window / 2 + 1)
		weight = (uint32_t)(window / 2 + 1);
	a->value += (int32_t)((target - a->value) * weight / (int64_t)window);
}

static void group_add(struct lfs_engine *e, uint32_t file, int32_t life, uint32_t weight)
{
	const struct lfs_file *f = &e->files[file];

	average_add(&e->file_avg[file], life, weight, FILE_SHIFT);
	average_add(&e->tenant_avg[f->tenant], life, weight, GROUP_SHIFT);
	average_add(&e->dir_avg[f->dir], life, weight, GROUP_SHIFT);
	average_add(&e->class_avg[f->cls], life, weight, GROUP_SHIFT);
}

static struct average *averages(uint32_t n, uint64_t capacity)
{
	struct average *a = calloc(n ? n : 1, sizeof(*a));

	for (uint32_t i = 0; a && i < n; i++)
		a[i].value = log256(capacity) * (AVG_ONE / 256);
	return a;
}

struct lfs_engine *lfs_new(uint32_t nr_blocks, uint32_t nr_files,
			   const struct lfs_file *files, uint32_t nr_tenants,
			   uint32_t nr_dirs, uint32_t nr_classes,
			   uint64_t capacity, uint64_t seed)
{
	struct lfs_engine *e;

	for (uint32_t i = 0; i < nr_files; i++)
		if (files[i].tenant < 0 || (uint32_t)files[i].tenant >= nr_tenants ||
		    files[i].dir < 0 || (uint32_t)files[i].dir >= nr_dirs ||
		    files[i].cls < 0 || (uint32_t)files[i].cls >= nr_classes)
			return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->nr_blocks = nr_blocks;
	e->nr_files = nr_files;
	e->capacity = capacity;
	e->seed = seed;
	e->gc_store = -1;
	e->blocks = calloc(nr_blocks, sizeof(*e->blocks));
	e->files = malloc((size_t)nr_files * sizeof(*files) + 1);
	e->file_avg = averages(nr_files, capacity);
	e->tenant_avg = averages(nr_tenants, capacity);
	e->dir_avg = averages(nr_dirs, capacity);
	e->class_avg = averages(nr_classes, capacity);
	if (!e->blocks || !e->files || !e->file_avg || !e->tenant_avg || !e->dir_avg ||
	    !e->class_avg) {
		lfs_free(e);
		return NULL;
	}
	memcpy(e->files, files, (size_t)nr_files * sizeof(*files));
	for (uint32_t i = 0; i < nr_blocks; i++) {
		e->blocks[i].slice = mix64(i ^ mix64(seed)) % NR_SLICES;
		e->blocks[i].pending = NONE32;
	}
	return e;
}

void lfs_free(struct lfs_engine *e)
{
	if (!e)
		return;
	for (uint32_t i = 0; i < e->nr_stores; i++)
		lfs_store_free(e->stores[i]);
	free(e->queue[0].slots);
	free(e->queue[1].slots);
	free(e->blocks);
	free(e->files);
	free(e->file_avg);
	free(e->tenant_avg);
	free(e->dir_avg);
	free(e->class_avg);
	free(e->death_of);
	free(e);
}

static bool geometry_ok(const struct lfs_geometry *g)
{
	/* Places are numbered in 32 bits, and the last number says "none". */
	return g->nr_segments && g->segment_blocks && g->reserve < g->nr_segments &&
	       (uint64_t)g->nr_segments * g->segment_blocks < NONE32;
}

static bool placement_ok(int placement)
{
	return placement >= 0 && placement < LFS_PLACE_NR;
}

static bool victim_ok(int victim)
{
	return victim >= 0 && victim < LFS_VICTIM_NR;
}

static bool store_ok(const struct lfs_engine *e, int store)
{
	return store >= 0 && (uint32_t)store < e->nr_stores;
}

int lfs_add_store(struct lfs_engine *e, const struct lfs_geometry *g, uint32_t share,
		  uint32_t slice, int placement, int victim)
{
	struct store *s;

	if (e->nr_stores == LFS_MAX_STORES || !share || NR_SLICES % share || slice >= share)
		return -1;
	/* A store that missed the beginning would not hold what lives. */
	if (e->clock || !geometry_ok(g) || !placement_ok(placement) || !victim_ok(victim))
		return -1;
	s = calloc(1, sizeof(*s));
	if (!s || lfs_store_init(s, g, e->nr_blocks)) {
		if (s)
			lfs_store_free(s);
		return -1;
	}
	s->share = share;
	s->slice = slice;
	s->placement = placement;
	s->victim = victim;
	e->stores[e->nr_stores] = s;
	for (uint32_t i = slice; i < NR_SLICES; i += share)
		e->in_slice[i][e->nr_in_slice[i]++] = (uint8_t)e->nr_stores;
	return (int)e->nr_stores++;
}

int lfs_set_program(struct lfs_engine *e, int store, uint32_t stream, const void *program,
		    uint64_t len)
{
	void *copy = NULL;

	if (stream > 1 || !store_ok(e, store))
		return -1;
	if (len) {
		const struct mlp_program *head = program;

		/* What a program is, the core checks; this is about our features. */
		if (len < sizeof(*head) || head->nr_features > LFS_NR_FEATURES)
			return -1;
		copy = malloc(len);
		if (!copy)
			return -1;
		memcpy(copy, program, len);
	}
	free(e->stores[store]->program[stream]);
	e->stores[store]->program[stream] = copy;
	return 0;
}

int lfs_set_victim(struct lfs_engine *e, int store, int victim)
{
	if (!store_ok(e, store) || !victim_ok(victim))
		return -1;
	e->stores[store]->victim = victim;
	return 0;
}

int lfs_set_dither(struct lfs_engine *e, int store, uint64_t seed)
{
	if (!store_ok(e, store))
		return -1;
	e->stores[store]->dither = seed;
	return 0;
}

int lfs_set_placement(struct lfs_engine *e, int store, int placement)
{
	if (!store_ok(e, store) || !placement_ok(placement))
		return -1;
	e->stores[store]->placement = placement;
	return 0;
}

void lfs_set_core(struct lfs_engine *e, const struct lfs_core *core)
{
	e->core = *core;
}

static int queue_init(struct pending_queue *q, uint32_t every, uint32_t also, uint64_t horizon)
{
	/* Blocks may be moved several times; those drawn at random come on top. */
	uint64_t want = every ? 8 * horizon / every + 64 : 0;

	want += also ? horizon / also : 0;


	free(q->slots);
	memset(q, 0, sizeof(*q));
	if (!every)
		return 0;
	q->size = 64;
	while (q->size < want)
		q->size *= 2;
	q->slots = calloc(q->size, sizeof(*q->slots));
	if (!q->slots)
		return -1;
	q->every = every;
	q->countdown = every;
	q->horizon = horizon;
	return 0;
}

int lfs_set_labels(struct lfs_engine *e, uint32_t every_user, uint32_t every_gc,
		    uint32_t every_live, uint64_t horizon, int gc_store)
{
	int bad = 0;

	/* Ages are in 32 bits; so are the queues' sizes. */
	if (!horizon || horizon > MAX_HORIZON ||
	    (gc_store >= 0 && !store_ok(e, gc_store)))
		return -1;
	bad |= queue_init(&e->queue[LFS_STREAM_USER], every_user, 0, horizon);
	bad |= queue_init(&e->queue[LFS_STREAM_GC], every_gc, every_live, horizon);
	for (uint32_t i = 0; i < e->nr_blocks; i++)
		e->blocks[i].pending = NONE32;
	e->gc_store = gc_store;
	e->live_every = every_live;
	return bad;
}

int lfs_set_future(struct lfs_engine *e, const uint32_t *deaths, uint64_t n,
		    const uint32_t *cuts, uint32_t nr_cuts)
{
	if (!e->death_of)
		e->death_of = calloc((size_t)e->nr_blocks + 1, sizeof(*e->death_of));
	if (!e->death_of)
		return -1;
	e->deaths = deaths;
	e->nr_deaths = n;
	e->nr_cuts = nr_cuts < LFS_MAX_LOGS ? nr_cuts : LFS_MAX_LOGS - 1;
	memcpy(e->cuts, cuts, e->nr_cuts * sizeof(*cuts));
	return 0;
}

/* The sample's id carries its stream in the top bit. */
static struct pending *pending_at(struct lfs_engine *e, uint32_t id)
{
	struct pending_queue *q = &e->queue[id >> 31];

	return &q->slots[(id & 0x7fffffff) & (q->size - 1)];
}

static void sample(struct lfs_engine *e, uint32_t stream, uint32_t block,
		   const int32_t *features, int action)
{
	struct pending_queue *q = &e->queue[stream];
	struct pending *p;
	uint64_t noise;

	if (!q->every || --q->countdown)
		return;
	/* Jittered, so that no rhythm of the stream is sampled. */
	noise = mix64(e->seed ^ e->clock ^ ((uint64_t)stream << 60) ^ (q->head << 20));
	q->countdown = q->every / 2 + 1 + (uint32_t)(noise % q->every);
	if (q->head - q->tail == q->size) {
		q->dropped++;
		return;
	}
	p = &q->slots[q->head & (q->size - 1)];
	memcpy(p->features, features, sizeof(p->features));
	p->block = block;
	p->at = (uint32_t)e->clock;
	p->died = NONE32;
	p->action = (uint32_t)action;
	p->next = e->blocks[block].pending;
	e->blocks[block].pending = (uint32_t)(q->head & 0x7fffffff) | (stream << 31);
	q->head++;
}

void lfs_sample_move(struct lfs_engine *e, const struct placing *p, int action)
{
	sample(e, LFS_STREAM_GC, p->block, p->features, action);
}

/*
 * How long a block of some age still lives is a property of the stream, not of
 * the store. So blocks drawn at random stand for relocated ones: they teach
 * the relocation model before the first cleaning has happened.
 */
static void sample_live(struct lfs_engine *e)
{
	struct pending_queue *q = &e->queue[LFS_STREAM_GC];
	int32_t features[LFS_NR_FEATURES];
	uint64_t draw = mix64(e->seed + 0x9e3779b97f4a7c15ull * e->clock);

	if (!e->live_every || e->clock % e->live_every)
		return;
	for (int tries = 0; tries < 8; tries++) {
		uint32_t block = (uint32_t)(draw % e->nr_blocks);

		if (e->blocks[block].live) {
			lfs_gc_features(e, block, 0, features);
			q->countdown = 1;
			sample(e, LFS_STREAM_GC, block, features, 0);
			return;
		}
		draw = mix64(draw + 1);
	}
}

static void unchain(struct lfs_engine *e, const struct pending *gone)
{
	uint32_t *link = &e->blocks[gone->block].pending;

	while (*link != NONE32 && pending_at(e, *link) != gone)
		link = &pending_at(e, *link)->next;
	if (*link != NONE32)
		*link = gone->next;
}

static void release_labels(struct lfs_engine *e, uint32_t stream)
{
	struct pending_queue *q = &e->queue[stream];

	while (q->tail < q->head) {
		struct pending *p = &q->slots[q->tail & (q->size - 1)];
		struct mlp_record r = { 0 };
		int32_t life;

		/* One fixed horizon for all: early deaths alone would bias short. */
		if ((uint32_t)e->clock - p->at < q->horizon)
			return;
		if (p->died == NONE32) {
			unchain(e, p);
			life = log256(q->horizon) + CENSORED;
			if (stream == LFS_STREAM_USER)
				group_add(e, e->blocks[p->block].file, life, q->every);
		} else {
			life = log256(p->died - p->at);
		}
		q->tail++;
		if (!e->core.publish)
			continue;
		r.time = e->clock;
		r.unit = p->block;
		r.cost = life;
		r.aux = 1;
		r.type = MLP_RECORD_LABEL;
		r.stream = (__u8)stream;
		r.action = (int32_t)p->action;
		r.nr_features = LFS_NR_FEATURES;
		memcpy(r.features, p->features, sizeof(p->features));
		((publish_fn)e->core.publish)(e->core.proxy, &r);
	}
}

/* The block's present content dies. */
static void death(struct lfs_engine *e, uint32_t block)
{
	struct block *b = &e->blocks[block];
	uint32_t lived = (uint32_t)e->clock - b->birth;
	int32_t life = log256(lived);

	for (uint32_t id = b->pending; id != NONE32;) {
		struct pending *p = pending_at(e, id);

		p->died = (uint32_t)e->clock;
		id = p->next;
	}
	b->pending = NONE32;
	b->life = (uint16_t)lfs_log16(lived);
	if (b->avg == NONE16)
		b->avg = (uint16_t)life;
	else
		b->avg = (uint16_t)(b->avg + ((life - b->avg) >> BLOCK_SHIFT));
	group_add(e, b->file, life, 1);
	for (uint8_t k = 0; k < e->nr_in_slice[b->slice]; k++)
		lfs_store_invalidate(e, e->stores[e->in_slice[b->slice][k]], block);
}

static void common_features(struct lfs_engine *e, const struct block *b, int32_t *f)
{
	const struct lfs_file *file = &e->files[b->file];
	int32_t class_avg = lfs_average(&e->class_avg[file->cls]);

	f[LFS_F_LIFE] = b->life == NONE16 ? class_avg : b->life;
	f[LFS_F_BLOCK_AVG] = b->avg == NONE16 ? class_avg : b->avg / 16;
	f[LFS_F_TENANT_AVG] = lfs_average(&e->tenant_avg[file->tenant]);
	f[LFS_F_DIR_AVG] = lfs_average(&e->dir_avg[file->dir]);
	f[LFS_F_CLASS_AVG] = class_avg;
	f[LFS_F_FILE_AVG] = e->file_avg[b->file].count ?
		lfs_average(&e->file_avg[b->file]) : class_avg;
	f[LFS_F_SIZE] = lfs_log16(file->blocks);
	f[LFS_F_NEW] = b->life == NONE16;
}

void lfs_gc_features(struct lfs_engine *e, uint32_t block, uint32_t origin, int32_t *f)
{
	const struct block *b = &e->blocks[block];

	common_features(e, b, f);
	f[LFS_F_RUN] = 0;
	f[LFS_F_AGE] = lfs_log16((uint32_t)e->clock - b->birth);
	f[LFS_F_ORIGIN] = (int32_t)origin;
}

static int write_block(struct lfs_engine *e, uint32_t block, uint32_t file, uint32_t run)
{
	struct block *b = &e->blocks[block];
	int32_t features[LFS_NR_FEATURES];
	uint32_t lived = NONE32;
	struct placing p;
	int bad = 0;

	if (b->live) {
		lived = (uint32_t)e->clock - b->birth;
		death(e, block);
	} else {
		b->life = NONE16;
		b->avg = NONE16;
		b->live = 1;
	}
	b->file = file;
	common_features(e, b, features);
	features[LFS_F_RUN] = lfs_log16(run);
	features[LFS_F_AGE] = 0;
	features[LFS_F_ORIGIN] = 0;
	b->birth = (uint32_t)e->clock;
	p = (struct placing){
		.features = features, .block = block, .stream = LFS_STREAM_USER,
		.life = lived, .death = NONE32,
	};
	if (e->deaths && e->clock < e->nr_deaths) {
		p.death = e->deaths[e->clock];
		e->death_of[block] = p.death;
	}
	sample(e, LFS_STREAM_USER, block, features, 0);
	sample_live(e);
	for (uint8_t k = 0; k < e->nr_in_slice[b->slice]; k++)
		bad |= lfs_store_write(e, e->stores[e->in_slice[b->slice][k]], &p);
	e->clock++;
	return bad;
}

static void trim_block(struct lfs_engine *e, uint32_t block)
{
	struct block *b = &e->blocks[block];

	if (!b->live)
		return;
	death(e, block);
	b->live = 0;
	b->life = NONE16;
	b->avg = NONE16;
}

int lfs_run(struct lfs_engine *e, const struct lfs_op *ops, uint64_t n, uint64_t *at,
	    uint64_t until)
{
	if (e->broken)
		return -1;
	for (uint32_t i = 0; i < e->nr_stores; i++) {
		const struct store *s = e->stores[i];

		if ((s->placement == LFS_PLACE_PROXY && !e->core.decide) ||
		    (s->placement == LFS_PLACE_PROGRAM && !e->core.program_eval &&
		     (s->program[0] || s->program[1])))
			return -3;
	}
	/* Somebody rewound in the middle of an operation. */
	if (*at != e->op_at)
		e->done_in_op = 0;
	while (*at < n && e->clock < until) {
		const struct lfs_op *op = &ops[*at];

		e->op_at = *at;
		if (op->file >= e->nr_files ||
		    (uint64_t)op->block + op->count > e->nr_blocks)
			return -2;
		while (e->done_in_op < op->count) {
			uint32_t block = op->block + e->done_in_op;

			if (op->trim) {
				trim_block(e, block);
			} else {
				if (e->clock == until)
					return 0;
				if (write_block(e, block, op->file, op->count)) {
					/* A move was cut short: its store is not whole. */
					e->broken = true;
					return -1;
				}
				if (!(e->clock & 255)) {
					release_labels(e, LFS_STREAM_USER);
					release_labels(e, LFS_STREAM_GC);
				}
			}
			e->done_in_op++;
		}
		e->done_in_op = 0;
		(*at)++;
	}
	return 0;
}

uint64_t lfs_clock(const struct lfs_engine *e)
{
	return e->clock;
}
