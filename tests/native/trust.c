// SPDX-License-Identifier: GPL-2.0-only
/*
 * How often and how fast the mode machine trusts: seeded runs of the core on
 * made-up costs. One line per run; the caller draws the conclusions.
 *
 *	trust SOURCE NOISE EFFECT_PPM TURN WINDOWS RUNS SEED [SD]
 *
 * SOURCE twin, gated or partition; NOISE iid, ar (AR(1), rho 0.8), ar5 (rho
 * 0.5) or lognormal; EFFECT the model's true saving; TURN the effect after a
 * run has been trusted for 64 windows ("none": it stays). A line says: window
 * of the first promotion, of trust, of the first loss of trust after the turn
 * (counted from the turn), last mode, trips, share of windows trusted (ppm);
 * -1 where it did not happen.
 */
#include "common.h"

struct noise {
	const char *kind;
	double sd, state[2];
};

/* A factor with mean 1 and about this relative spread. */
static double factor(struct noise *n, int arm, __u64 *rng)
{
	double z = normal(rng), rho = 0;

	if (!strcmp(n->kind, "lognormal")) {
		double s = 1.0;		/* heavy: relative spread 1.3 */

		return exp(s * z - s * s / 2);
	}
	if (!strcmp(n->kind, "ar"))
		rho = 0.8;
	if (!strcmp(n->kind, "ar5"))
		rho = 0.5;
	n->state[arm] = rho * n->state[arm] + sqrt(1 - rho * rho) * z;
	z = 1 + n->sd * n->state[arm];
	return z < 0.01 ? 0.01 : z;
}

int main(int argc, char **argv)
{
	long windows, runs, run;
	__u64 rng;

	if (argc < 8)
		return 2;
	windows = atol(argv[5]);
	runs = atol(argv[6]);
	rng = strtoull(argv[7], NULL, 0);
	for (run = 0; run < runs; run++) {
		struct mlp_config cfg = config_of(MLP_KIND_VALUE);
		struct noise noise = { argv[2], argc > 8 ? atof(argv[8]) : 0.2, { 0, 0 } };
		long first = -1, trust = -1, turned = -1, lost = -1, trusted = 0, t;
		int partition = !strcmp(argv[1], "partition");
		double effect = atof(argv[3]) / 1e6;
		struct mlp_snapshot s;
		struct rig rig;

		cfg.seed = draw(&rng);
		cfg.twin_gate = !strcmp(argv[1], "gated");
		rig_up(&rig, &cfg, 0);
		mlp_start(rig.p, 0);
		noise.state[0] = normal(&rng);
		noise.state[1] = normal(&rng);
		for (t = 1; t <= windows; t++) {
			double d = 1e6 * factor(&noise, 0, &rng);
			double m = 1e6 * (1 - effect) * factor(&noise, 1, &rng);

			if (partition) {
				mlp_report(rig.p, MLP_ARM_DEFAULT, 1, (__s64)d, t);
				mlp_report(rig.p, MLP_ARM_MODEL, 2, (__s64)m, t);
			} else {
				mlp_report_twin(rig.p, (__s64)d, (__s64)m, t);
			}
			mlp_tick(rig.p, t);
			s = look(&rig, t);
			trusted += s.mode == MLP_MODE_TRUSTED;
			if (first < 0 && s.reason == MLP_REASON_PROMOTED)
				first = t;
			if (trust < 0 && s.mode == MLP_MODE_TRUSTED)
				trust = t;
			if (turned < 0 && strcmp(argv[4], "none") &&
			    s.mode == MLP_MODE_TRUSTED && t - (long)s.mode_since >= 64) {
				turned = t;
				effect = atof(argv[4]) / 1e6;
			}
			if (turned >= 0 && lost < 0 && s.mode != MLP_MODE_TRUSTED)
				lost = t - turned;
		}
		s = look(&rig, t);
		printf("%ld %ld %ld %u %u %ld\n", first, trust, lost, s.mode, s.trips,
		       trusted * 1000000 / windows);
		rig_down(&rig);
	}
	return 0;
}
