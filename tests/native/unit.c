// SPDX-License-Identifier: GPL-2.0-only
/* What Python cannot reach: helpers, extremes, memory exactly as large as asked. */
#include "common.h"
#include "../../kmod/core/fixed.h"

static void square_roots(void)
{
	__u64 v, state = 1;
	__u32 i, root;

	for (i = 0; i < 20000; i++) {
		v = draw(&state) >> (i % 64);
		root = mlp_isqrt(v);
		CHECK((__u64)root * root <= v);
		CHECK(root == 0xffffffffU || (__u64)(root + 1ULL) * (root + 1ULL) > v);
		if (v < 1ULL << 48)
			CHECK(fabs((double)mlp_sqrt_q8(v) - 256 * sqrt((double)v)) < 1);
		else
			CHECK(fabs((double)mlp_sqrt_q8(v) / (256 * sqrt((double)v)) - 1) < 1e-6);
	}
	CHECK(mlp_isqrt(0) == 0 && mlp_isqrt(MLP_U64_MAX) == 0xffffffffU);
}

static void logarithms(void)
{
	__u64 v, state = 2;
	__u32 i;

	CHECK(mlp_log2_q16(0) == 0 && mlp_log2_q16(1) == 0);
	for (i = 0; i < 64; i++)
		CHECK(mlp_log2_q16(1ULL << i) == i << 16);
	for (i = 0; i < 20000; i++) {
		v = draw(&state) >> (i % 60);
		if (v)
			CHECK(fabs(mlp_log2_q16(v) / 65536.0 - log2((double)v)) < 3e-5);
	}
}

static void ratios(void)
{
	__u64 state = 3;
	__u32 i;

	for (i = 0; i < 20000; i++) {
		__s64 part = (__s64)draw(&state) >> (i % 60), whole = (__s64)(draw(&state) >> (1 + i % 50));
		double want = 1e6 * (double)part / (double)whole;

		if (!whole)
			continue;
		want = want > 1e9 ? 1e9 : want < -1e9 ? -1e9 : want;
		CHECK(fabs((double)mlp_ratio_ppm(part, whole, 1000000000) - want) <=
		      1 + 1e-4 * fabs(want) || (whole >> (i % 60) < 1 << 20 && part >> 43));
	}
	CHECK(mlp_ratio_ppm(5, 0, 77) == 77 && mlp_ratio_ppm(-5, 0, 77) == -77);
	CHECK(mlp_ratio_ppm(0, 0, 77) == 0);
	CHECK(mlp_share(MLP_U64_MAX, 1000000) == MLP_U64_MAX);
	CHECK(mlp_share(MLP_U64_MAX, 0xffffffffU) == MLP_U64_MAX);
	CHECK(mlp_share(1000, 250000) == 250 && mlp_share(3, 500000) == 1);
}

static void saturation(void)
{
	CHECK(mlp_sadd(MLP_S64_MAX, 1) == MLP_S64_MAX);
	CHECK(mlp_sadd(-MLP_S64_MAX, -9) == -MLP_S64_MAX);
	CHECK(mlp_uadd(MLP_U64_MAX, 1) == MLP_U64_MAX && mlp_usub(1, 2) == 0);
	CHECK(mlp_umul(1ULL << 40, 1ULL << 40) == MLP_U64_MAX);
	CHECK(mlp_abs(-MLP_S64_MAX - 1) == 1ULL << 63);
}

/* Long, extreme, perfectly correlated costs: nothing wraps, the verdict holds. */
static void extremes(void)
{
	struct mlp_config cfg = config_of(MLP_KIND_VALUE);
	struct mlp_snapshot s;
	struct rig rig;
	__u32 t;

	cfg.twin_gate = 1;
	rig_up(&rig, &cfg, 0);
	mlp_start(rig.p, 0);
	for (t = 0; t < 300000; t++)
		mlp_report_twin(rig.p, MLP_S64_MAX, -MLP_S64_MAX, t);
	s = look(&rig, t);
	CHECK(s.mode == MLP_MODE_TRUSTED && s.twin.saving_ppm > 1900000);
	for (; t < 300100; t++)
		mlp_report_twin(rig.p, -MLP_S64_MAX, MLP_S64_MAX, t);
	s = look(&rig, t);
	CHECK(s.mode == MLP_MODE_EMERGENCY && s.reason == MLP_REASON_COST_SPIKE);
	rig_down(&rig);
}

/* Small integers, zeros, then a thousandfold: the ledger's scale follows. */
static void scales(void)
{
	struct mlp_config cfg = config_of(MLP_KIND_VALUE);
	struct mlp_snapshot s;
	struct rig rig;
	__u32 t;

	rig_up(&rig, &cfg, 0);
	mlp_start(rig.p, 0);
	for (t = 0; t < 10; t++)
		mlp_report_twin(rig.p, 0, 0, t);
	s = look(&rig, t);
	CHECK(s.twin.pairs == 10 && s.twin.saving_ppm == 0);
	for (; t < 110; t++)
		mlp_report_twin(rig.p, 3, 2, t);
	s = look(&rig, t);
	CHECK(s.twin.saving_ppm == 333333 && s.twin.regret == -100);
	for (; t < 210; t++)
		mlp_report_twin(rig.p, 3000000, 2000000, t);
	s = look(&rig, t);
	CHECK(s.twin.saving_ppm > 333000 && s.twin.saving_ppm <= 333334);
	CHECK(s.twin.arm[0].count == 210);
	CHECK(llabs(s.twin.arm[0].mean - 1428573) < 2000);
	rig_down(&rig);
}

static void gate(void)
{
	struct mlp_config cfg = config_of(MLP_KIND_VALUE);
	__u32 t, unit, given, changes = 0, state = 99;
	struct mlp_snapshot s;
	struct rig rig;

	cfg.twin_gate = 1;
	rig_up(&rig, &cfg, 0);
	mlp_start(rig.p, 0);
	for (t = 1; t < 200; t++) {
		s = look(&rig, t);
		changes += s.state != state;
		state = s.state;
		for (unit = 0, given = 0; unit < 1000; unit++)
			given += mlp_arm_of(rig.p, unit, t);
		CHECK(!given == (s.state == MLP_STATE_GATED));
		/* However good the trial looks: the twin's verdict is what counts. */
		mlp_report(rig.p, 0, 1, 1000 + t % 7, t);
		mlp_report(rig.p, 1, 2, 500 + t % 7, t);
		if (t > 100)
			mlp_report_twin(rig.p, 1000 + t % 7, 900 + t % 5, t);
		else
			CHECK(s.state == MLP_STATE_GATED);
	}
	CHECK(changes == 4 && state == MLP_STATE_TRUSTED);
	/* Gross harm in the trial trips although the twin is content. */
	for (; t < 300; t++) {
		mlp_report(rig.p, 0, 1, 1000 + t % 7, t);
		mlp_report(rig.p, 1, 2, 1900 + t % 7, t);
		mlp_report_twin(rig.p, 1000 + t % 7, 900 + t % 5, t);
		s = look(&rig, t);
		if (s.mode != MLP_MODE_TRUSTED)
			break;
	}
	CHECK(t < 210);
	rig_down(&rig);
}

static void budget(void)
{
	struct mlp_config cfg = config_of(MLP_KIND_VALUE);
	struct mlp_snapshot s;
	struct rig rig;
	__u32 t;

	cfg.budget = 1000;
	rig_up(&rig, &cfg, 0);
	mlp_start(rig.p, 0);
	CHECK(!mlp_set_mode(rig.p, MLP_MODE_TRUSTED, MLP_REASON_OPERATOR, 0));
	for (t = 1; t <= 40; t++) {	/* what was saved is no credit */
		mlp_report(rig.p, 0, 1, 10000, t);
		mlp_report(rig.p, 1, 2, 9000, t);
	}
	CHECK(look(&rig, t).budget_used == 0);
	for (t = 1; look(&rig, t).mode == MLP_MODE_TRUSTED; t++) {
		mlp_report(rig.p, 0, 1, 10000, t);
		mlp_report(rig.p, 1, 2, 10201, t);
	}
	s = look(&rig, t);
	CHECK(t == 6 && s.reason == MLP_REASON_BUDGET && s.mode == MLP_MODE_EMERGENCY);
	rig_down(&rig);
}

/* Three in a row, beyond margin and noise; two and a normal one are nothing. */
static void spikes(void)
{
	struct mlp_config cfg = config_of(MLP_KIND_VALUE);
	struct rig rig;
	__u32 t;

	rig_up(&rig, &cfg, 0);
	mlp_start(rig.p, 0);
	CHECK(!mlp_set_mode(rig.p, MLP_MODE_TRUSTED, MLP_REASON_OPERATOR, 0));
	for (t = 0; t < 300; t++) {
		mlp_report(rig.p, 0, 1, 1000, t);
		mlp_report(rig.p, 1, 2, t % 30 < 2 ? 1300 : 800, t);
	}
	CHECK(look(&rig, t).mode == MLP_MODE_TRUSTED);
	for (t = 0; t < 3; t++)
		mlp_report(rig.p, 1, 2, 1300, 300);
	CHECK(look(&rig, 300).reason == MLP_REASON_COST_SPIKE);
	rig_down(&rig);
}

static void arguments(void)
{
	struct mlp_config cfg = config_of(MLP_KIND_PROGRAM);
	struct mlp_proxy *p = malloc(mlp_proxy_size());
	void *slots = malloc(mlp_slots_size(&cfg)), *ring = malloc(mlp_ring_size(8));

	CHECK(!mlp_config_check(&cfg, NULL));
	CHECK(mlp_init(p, &cfg, NULL, ring, 8, 0) < 0);
	CHECK(mlp_init(p, &cfg, slots, ring, 0, 0) < 0);
	CHECK(mlp_init(p, &cfg, slots, ring, 6, 0) < 0);
	CHECK(!mlp_init(p, &cfg, slots, ring, 8, 0));
	CHECK(mlp_consume(p, 1) < 0 && !mlp_consume(p, 0));
	CHECK(mlp_set_mode(p, 4, 0, 0) < 0 && mlp_set_mode(p, 1, 99, 0) < 0);
	cfg.reserved[2] = 1;
	CHECK(mlp_config_check(&cfg, NULL));
	free(p);
	free(slots);
	free(ring);
}

int main(void)
{
	square_roots();
	logarithms();
	ratios();
	saturation();
	extremes();
	scales();
	gate();
	budget();
	spikes();
	arguments();
	puts("ok");
	return 0;
}
