// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random walks over the whole API, under ASan and UBSan.
 *
 *	fuzz_api SECONDS SEED	until the time is over; prints each walk's seed on failure
 *	fuzz_api 0 SEED COUNT	exactly COUNT walks
 */
#include <time.h>

#include "common.h"

static __u64 rng, walk_seed;

static __u64 below(__u64 n)
{
	return draw(&rng) % n;
}

/* A walk's costs are wild, steady (so that trust is reached) or all extreme. */
static __u64 regime;
/* Nobody intervenes, so that evidence grows old. */
static __u64 calm;

static __s64 any_cost(__u32 arm)
{
	if (regime == 1)
		return 1000000 + (__s64)below(20000) - (__s64)(arm ? 100000 : 0);
	if (regime == 2)
		return arm ? -0x7fffffffffffffffLL : 0x7fffffffffffffffLL;
	switch (below(6)) {
	case 0:
		return (__s64)draw(&rng);
	case 1:
		return 0;
	case 2:
		return (__s64)below(10) - 5;
	case 3:
		return below(2) ? 0x7fffffffffffffffLL : -0x7fffffffffffffffLL - 1;
	default:
		return 1000000 + (__s64)below(200000);
	}
}

static __u32 any_ppm(void)
{
	return below(30) ? 1 + (__u32)below(999999) : (__u32)draw(&rng);
}

static struct mlp_config any_config(void)
{
	struct mlp_config cfg = config_of(1 + (__u32)below(4));

	cfg.seed = draw(&rng);
	cfg.trial = (__u32)below(2);
	cfg.nr_streams = 1 + (__u32)below(4);
	cfg.sample_every = (__u32)below(4);
	cfg.twin_gate = (__u32)below(2);
	cfg.noise_levels = (__u32)below(8);
	cfg.alpha = any_ppm();
	cfg.alpha_demote = any_ppm();
	cfg.min_effect = any_ppm();
	cfg.min_count = 2 + (__u32)below(30);
	cfg.spike = any_ppm();
	cfg.spike_count = (__u32)below(4);
	cfg.budget = below(2) ? (__s64)(draw(&rng) >> below(64)) : 0;
	cfg.dwell = below(50);
	cfg.heartbeat_limit = below(2) ? below(100) : 0;
	cfg.reject_limit = (__u32)below(8);
	cfg.reject_window = below(50);
	cfg.trip_limit = (__u32)below(6);
	cfg.cooldown = below(50);
	cfg.cooldown_max = cfg.cooldown + (draw(&rng) >> (1 + below(63)));
	cfg.epoch = 1 + below(200);
	cfg.epoch_settle = any_ppm();
	cfg.max_expiry = 1 + (draw(&rng) >> below(64));
	if (cfg.kind == MLP_KIND_PROGRAM) {
		cfg.nr_features = 1 + (__u32)below(16);
		cfg.max_nodes = 1 + (__u32)below(MLP_MAX_NODES);
	} else if (!below(20)) {
		cfg.kind = (__u32)draw(&rng);
	}
	if (!below(8))
		cfg.max = (__s64)draw(&rng);
	return cfg;
}

/* A mostly valid program: a random forest of forward-only nodes. */
static __u32 make_program(char *out, const struct mlp_config *cfg)
{
	struct mlp_program *h = (void *)out;
	struct mlp_node *nodes = (void *)(h + 1);
	__u32 i, n = 1 + 2 * (__u32)below(below(4) ? 20 : 511);

	memset(h, 0, sizeof(*h));
	h->nr_nodes = n;
	h->nr_trees = 1 + (__u16)below(below(4) ? 1 : MLP_MAX_TREES);
	h->nr_features = (__u16)cfg->nr_features;
	h->stream = (__u16)below(cfg->nr_streams);
	h->nr_cuts = (__u16)below(4) ? 0 : (__u16)below(MLP_MAX_CUTS + 1);
	for (i = 0; i < h->nr_cuts; i++)
		h->cuts[i] = (__s32)i * 3 - 5;
	for (i = 1; i < h->nr_trees; i++)
		h->root[i] = (__u16)below(n);
	memset(nodes, 0, n * sizeof(*nodes));
	for (i = 0; i < n; i++) {
		if (2 * i + 2 < n) {
			nodes[i].feature = (__u16)below(h->nr_features ? h->nr_features : 1);
			nodes[i].left = (__u16)(2 * i + 1);
			nodes[i].right = (__u16)(2 * i + 2);
			nodes[i].value = (__s32)draw(&rng) >> below(32);
		} else {
			nodes[i].feature = MLP_LEAF;
			nodes[i].confidence = (__u16)below(1001);
			nodes[i].value = (__s32)below(8);
		}
	}
	return (__u32)(sizeof(*h) + n * sizeof(*nodes));
}

static void submit(struct rig *rig, __u64 *seq, __u64 now)
{
	static char buffer[sizeof(struct mlp_recommendation) + sizeof(struct mlp_program) +
			   (MLP_MAX_NODES + 8) * sizeof(struct mlp_node)] __attribute__((aligned(8)));
	struct mlp_recommendation *r = (void *)buffer;
	__u32 body = 0, i, flips;
	char *exact;
	int err;

	memset(r, 0, sizeof(*r));
	r->struct_len = sizeof(*r);
	r->abi_version = MLP_ABI_VERSION;
	r->kind = rig->cfg.kind;
	r->model_id = 1;
	r->model_version = 1 + (__u32)below(9);
	r->seq = below(8) ? ++*seq : below(*seq + 1);
	r->expiry = now + below(8) * below(200);
	r->confidence = (__u16)below(1001);
	if (rig->cfg.kind == MLP_KIND_PROGRAM) {
		body = make_program(buffer + sizeof(*r), &rig->cfg);
	} else if (rig->cfg.kind == MLP_KIND_RANK) {
		r->nr = (__u16)below(8);
		for (i = 0; i < r->nr; i++)
			((__u64 *)(r + 1))[i] = below(9);
		body = r->nr * 8;
	} else {
		r->value = (__s64)below(9);
	}
	r->length = (__u32)sizeof(*r) + body;
	flips = below(3) ? 0 : 1 + (__u32)below(4);
	for (i = 0; i < flips; i++)
		buffer[below(r->length < sizeof(buffer) ? r->length + 1 : sizeof(buffer))] ^=
			(char)(1 << below(8));
	/* Exact and, at times, cut short or unaligned: reading over is seen. */
	body += (__u32)sizeof(*r);
	if (!below(8))
		body = (__u32)below(body + 1);
	i = (__u32)below(8);
	exact = malloc(body + i + 1);
	memcpy(exact + i, buffer, body);
	exact = realloc(exact, body + i ? body + i : 1);
	err = mlp_submit(rig->p, exact + i, body, now);
	CHECK(err <= 0 && err > -MLP_REJECT_NR);
	if (rig->cfg.kind == MLP_KIND_PROGRAM && body >= sizeof(*r))
		mlp_program_check(exact + i + sizeof(*r), body - sizeof(*r), NULL);
	free(exact);
}

static void step(struct rig *rig, __u64 *seq, __u64 *now)
{
	struct mlp_decision d;
	struct mlp_snapshot s;
	struct mlp_record rec;
	__s32 features[MLP_MAX_FEATURES];
	__u64 ids[MLP_MAX_RANK];
	__u32 i;

	if (!below(3))
		*now += below(30);
	if (!below(5000))
		*now = below(2) ? draw(&rng) : *now / 2;
	switch (calm && *now ? 9 + below(7) : below(16)) {
	case 0:
		mlp_start(rig->p, *now);
		break;
	case 1:
		if (!below(20))
			mlp_stop(rig->p, *now, (__u32)below(MLP_REASON_NR));
		break;
	case 2:
		mlp_tick(rig->p, *now);
		break;
	case 3:
		mlp_heartbeat(rig->p, *now);
		break;
	case 4:
		if (!below(10))
			mlp_critical(rig->p, (int)below(2), *now);
		break;
	case 5:
		if (!below(10))
			mlp_operator(rig->p, (int)below(3) == 0, *now);
		break;
	case 6:
		if (!below(4))
			mlp_set_mode(rig->p, (__u32)below(6), (__u32)below(18), *now);
		break;
	case 7:
		mlp_consume(rig->p, draw(&rng) >> below(64));
		break;
	case 8:
		memset(&rec, 0, sizeof(rec));
		mlp_publish(rig->p, &rec);
		break;
	case 9:
	case 10:
		i = (__u32)below(3);
		mlp_report(rig->p, i, draw(&rng), any_cost(i), *now);
		break;
	case 11:
	case 12:
		mlp_report_twin(rig->p, any_cost(0), any_cost(1), *now);
		break;
	case 13:
		submit(rig, seq, *now);
		break;
	default:
		for (i = 0; i < MLP_MAX_FEATURES; i++)
			features[i] = (__s32)draw(&rng);
		mlp_decide(rig->p, (__u32)below(5), features, draw(&rng), 3, *now, &d);
		CHECK(d.arm == MLP_ARM_DEFAULT ? d.action == 3 :
		      d.action >= rig->cfg.min && d.action <= rig->cfg.max);
		mlp_decide_rank(rig->p, draw(&rng), *now, ids, (__u32)below(MLP_MAX_RANK + 1));
	}
	mlp_snapshot(rig->p, &s, *now);
	CHECK(s.mode <= MLP_MODE_TRUSTED && s.state < MLP_STATE_NR);
	CHECK(s.trial.lower_ppm <= s.trial.upper_ppm && s.twin.lower_ppm <= s.twin.upper_ppm);
	CHECK(!(s.latched || s.operator_hold) || s.mode == MLP_MODE_EMERGENCY);
}

static void walk(__u64 seed)
{
	struct mlp_config cfg;
	const char *bad = NULL;
	__u64 seq = 0, now = 0;
	__u32 i, steps;
	struct rig rig;

	rng = walk_seed = seed;
	regime = below(4);
	calm = regime && !below(4);
	cfg = any_config();
	if (mlp_config_check(&cfg, &bad)) {
		struct mlp_proxy *p = malloc(mlp_proxy_size());

		CHECK(bad && *bad);
		CHECK(mlp_init(p, &cfg, NULL, NULL, 0, 0));
		free(p);
		return;
	}
	rig_up(&rig, &cfg, below(4) ? 1U << below(7) : 0);
	steps = 1 + (__u32)below(calm && !below(8) ? 60000 : 3000);
	if (calm)
		CHECK(!mlp_start(rig.p, now++));
	for (i = 0; i < steps; i++)
		step(&rig, &seq, &now);
	rig_down(&rig);
}

/* The sanitisers' last words go to stderr; this line says how to come back. */
void __asan_on_error(void);
void __asan_on_error(void)
{
	fprintf(stderr, "failing walk: fuzz_api 0 %llu 1\n", walk_seed);
}

static void at_exit(void)
{
	if (walk_seed)
		__asan_on_error();
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atol(argv[1]) : 1);
	__u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	__u64 count = argc > 3 ? strtoull(argv[3], NULL, 0) : 0, done = 0;

	atexit(at_exit);
	for (; count ? done < count : time(NULL) < end; done++)
		walk(seed + done);
	walk_seed = 0;
	printf("%llu walks, no finding\n", done);
	return 0;
}
