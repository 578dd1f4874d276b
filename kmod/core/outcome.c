// SPDX-License-Identifier: GPL-2.0-only
/*
 * Outcomes: what windows cost, and what follows from it. Fast guards look
 * first; then the tests, slow to trust and quick to distrust.
 */
#include "internal.h"

static void court_reset(struct mlp_court *c)
{
	memset(c, 0, sizeof(*c));
	c->horizon = MLP_FIRST_HORIZON;
}

void mlp_trial_reset(struct mlp_proxy *p)
{
	court_reset(&p->trial_court);
}

void mlp_evidence_reset(struct mlp_proxy *p)
{
	court_reset(&p->trial_court);
	court_reset(&p->twin_court);
	p->budget_used = 0;
	p->reject_count = 0;
}

/* The sum over all attempts of 1 / divisor is one: alpha is never spent twice. */
static __u64 divisor(const struct mlp_proxy *p)
{
	return (p->attempts + 1ULL) * (p->attempts + 2ULL);
}

static void bounds_of(const struct mlp_proxy *p, const struct mlp_ledger *l, __u32 alpha,
		      __u64 share, struct mlp_bounds *out)
{
	mlp_ledger_bounds(l, alpha, share, p->cfg.noise_levels, out);
}

#define NR_LEDGERS	3

/* The ledgers of a court: 0 the long one, 1 and 2 the fast ones. */
static const struct mlp_ledger *ledger_of(const struct mlp_court *c, __u32 i)
{
	return i ? &c->fast[i - 1] : &c->whole;
}

void mlp_evidence_of(const struct mlp_proxy *p, const struct mlp_court *court,
		     struct mlp_evidence *out)
{
	const struct mlp_ledger *l = ledger_of(court, court->decided ? court->decided - 1 : 0);
	struct mlp_bounds bounds = court->bounds;

	memset(out, 0, sizeof(*out));
	if (!court->decided)
		bounds_of(p, l, p->cfg.alpha, divisor(p), &bounds);
	mlp_ledger_arm(&court->whole, MLP_ARM_DEFAULT, &out->arm[MLP_ARM_DEFAULT]);
	mlp_ledger_arm(&court->whole, MLP_ARM_MODEL, &out->arm[MLP_ARM_MODEL]);
	out->pairs = l->pairs;
	out->saving_ppm = bounds.saving_ppm;
	out->lower_ppm = bounds.lower_ppm;
	out->upper_ppm = bounds.upper_ppm;
	out->regret = court->regret;
}

/* The evidence that promotes: the twin's where lasting effects need one. */
static int promotes(const struct mlp_proxy *p, const struct mlp_court *c)
{
	return c == (p->cfg.twin_gate ? &p->twin_court : &p->trial_court);
}

/* Fading means: over 16 windows, a plain mean while there are fewer. */
static void learn_usual(struct mlp_usual *u, __s64 value)
{
	__s64 distance = u->count ? (__s64)mlp_abs(value - u->mean) : 0, n;

	if (u->count < 16)
		u->count++;
	n = (__s64)u->count;
	u->mean += mlp_sdiv(value - u->mean, n);
	u->spread += mlp_sdiv(distance - u->spread, n);
}

/*
 * A window counts toward the guard when the model costs more than cfg.spike
 * above the reference and more than is usual: 2.5 mean distances, which is two
 * standard deviations of normal noise.
 */
static int above(const struct mlp_proxy *p, const struct mlp_usual *u,
		 __s64 reference, __s64 cost)
{
	__u64 allowed = mlp_share(mlp_abs(reference), p->cfg.spike);
	__u64 usual = (__u64)u->spread * 5 / 2;

	if (allowed < usual)
		allowed = usual;
	return cost > reference && (__u64)(cost - reference) > allowed;
}

/* Returns 1 when so many windows in a row were above. */
static int spiked(struct mlp_proxy *p, struct mlp_court *c, const struct mlp_usual *u,
		  __s64 reference, __s64 cost)
{
	if (!p->cfg.spike_count || !p->share || u->count < MLP_USUAL_COUNT)
		return 0;
	if (!above(p, u, reference, cost)) {
		c->spike_run = 0;
		return 0;
	}
	return ++c->spike_run >= p->cfg.spike_count;
}

static int overspent(struct mlp_proxy *p, __s64 excess)
{
	if (!p->share)
		return 0;
	p->budget_used = mlp_sadd(p->budget_used, excess);
	if (p->budget_used < 0)
		p->budget_used = 0;
	return p->cfg.budget && p->budget_used > p->cfg.budget;
}

/* Returns which ledger says so, from 1, with its bounds in the court; or 0. */
static __u32 surely_worse(const struct mlp_proxy *p, struct mlp_court *c)
{
	/* Evidence that does not promote only trips on gross harm. */
	__s64 below = promotes(p, c) ? 0 : -(__s64)p->cfg.spike;
	__u32 i;

	for (i = 0; i < NR_LEDGERS; i++) {
		const struct mlp_ledger *l = ledger_of(c, i);

		bounds_of(p, l, p->cfg.alpha_demote, 1, &c->bounds);
		if (l->pairs && c->bounds.upper_ppm < below)
			return i + 1;
	}
	return 0;
}

/*
 * Half of the false-promotion rate goes to the long ledger, half to the fast
 * ones: while a model is still learning its gain grows, and a trend is variance
 * to the long one. The n-th fast ledger may spend 1/((n + 1)(n + 2)) of its half.
 * Returns as surely_worse() does.
 */
static __u32 surely_better(const struct mlp_proxy *p, struct mlp_court *c)
{
	__u64 n = c->seen / MLP_FAST_WINDOW;
	const struct mlp_bounds *b = &c->bounds;
	__u32 i;

	if (n > 1000)
		n = 1000;
	for (i = 0; i < NR_LEDGERS; i++) {
		const struct mlp_ledger *l = ledger_of(c, i);
		__u64 tries = i ? (n + 1) * (n + 2) : 1;

		if (l->pairs < p->cfg.min_count)
			continue;
		bounds_of(p, l, p->cfg.alpha, 2 * tries * divisor(p), &c->bounds);
		if (b->lower_ppm > 0 && b->saving_ppm >= (__s64)p->cfg.min_effect)
			return i + 1;
	}
	return 0;
}

/* Change the mode on what a ledger says, and say that with the change. */
static void decide_on(struct mlp_proxy *p, struct mlp_court *c, __u32 ledger, __u32 event,
		      __u32 reason, __u64 now)
{
	c->decided = ledger;
	mlp_event(p, event, reason, now);
	c->decided = 0;
}

static void test_promotion(struct mlp_proxy *p, struct mlp_court *c, __u64 now)
{
	struct mlp_bounds b;
	__u32 ledger;

	if (c->whole.pairs < p->cfg.min_count)
		return;
	bounds_of(p, &c->whole, p->cfg.alpha, divisor(p), &b);
	if (p->state >= MLP_STATE_COLLABORATION &&
	    b.upper_ppm < (__s64)(p->cfg.min_effect / 2)) {
		mlp_event(p, MLP_EVENT_NO_GAIN, MLP_REASON_NO_GAIN, now);
		return;
	}
	if (p->state >= MLP_STATE_TRUSTED || mlp_usub(now, p->state_since) < p->cfg.dwell)
		return;
	ledger = surely_better(p, c);
	if (ledger)
		decide_on(p, c, ledger, MLP_EVENT_PROMOTE, MLP_REASON_PROMOTED, now);
}

/* Old evidence goes: long ledgers at a horizon, fast ones in turns. */
static void forget(struct mlp_proxy *p, struct mlp_court *c)
{
	__u64 last = p->state >= MLP_STATE_COLLABORATION ? MLP_TRUST_HORIZON :
							   MLP_LAST_HORIZON;

	if (!(c->seen % MLP_FAST_WINDOW))
		mlp_ledger_reset(&c->fast[(c->seen / MLP_FAST_WINDOW) & 1]);
	if (c->whole.pairs < c->horizon)
		return;
	mlp_ledger_reset(&c->whole);
	if (c->horizon < last)
		c->horizon *= 2;
	if (promotes(p, c) && p->state <= MLP_STATE_LEARNING && p->attempts < 30000)
		p->attempts++;
}

/* A long stay in trusted clears what went before. */
static void forgive(struct mlp_proxy *p)
{
	if (p->state != MLP_STATE_TRUSTED || ++p->trusted_pairs != MLP_FORGIVE_PAIRS)
		return;
	p->trips = 0;
	p->backoff = 0;
	p->attempts = 0;
}

/* One more pair: @n windows of the model against the default's. */
static void pair(struct mlp_proxy *p, struct mlp_court *c, __s64 cost_default,
		 __s64 cost_model, __u32 n, __u64 now)
{
	__s64 excess = (cost_model - cost_default) * n;
	__u32 ledger;

	c->seen++;
	c->regret = mlp_sadd(c->regret, excess);
	mlp_ledger_pair(&c->whole, cost_default, cost_model);
	mlp_ledger_pair(&c->fast[0], cost_default, cost_model);
	mlp_ledger_pair(&c->fast[1], cost_default, cost_model);
	if (!mlp_live(p->state)) {
		forget(p, c);
		return;
	}
	if (promotes(p, c) && overspent(p, excess)) {
		mlp_event(p, MLP_EVENT_BUDGET, MLP_REASON_BUDGET, now);
		return;
	}
	ledger = surely_worse(p, c);
	if (ledger) {
		decide_on(p, c, ledger, MLP_EVENT_DEMOTE, MLP_REASON_DEMOTED, now);
		return;
	}
	if (promotes(p, c)) {
		test_promotion(p, c, now);
		forgive(p);
	}
	forget(p, c);
}

static void publish_outcome(struct mlp_proxy *p, __u32 type, __u32 arm, __u64 unit,
			    __s64 cost, __s64 aux, __u64 now)
{
	struct mlp_record rec;

	if (!p->meta)
		return;
	memset(&rec, 0, sizeof(rec));
	rec.time = now;
	rec.unit = unit;
	rec.cost = cost;
	rec.aux = aux;
	rec.type = (__u8)type;
	rec.arm = (__u8)arm;
	rec.mode = (__u8)mlp_mode_of(p);
	rec.model_version = arm == MLP_ARM_MODEL ? p->model_version : 0;
	mlp_publish(p, &rec);
}

/* A switchback epoch counts when it is settled and began in this mode. */
static int scored(const struct mlp_proxy *p, __u64 now)
{
	__u64 begin;

	if (p->trial != MLP_TRIAL_SWITCHBACK)
		return 1;
	begin = mlp_udiv(now, p->epoch) * p->epoch;
	return begin >= p->state_since &&
	       now - begin >= mlp_share(p->epoch, p->cfg.epoch_settle);
}

void mlp_report(struct mlp_proxy *p, __u32 arm, __u64 unit, __s64 cost, __u64 now)
{
	struct mlp_court *c = &p->trial_court;
	struct mlp_usual *u = &p->trial_usual;
	__s64 mean[2];

	if (arm > MLP_ARM_MODEL)
		return;
	arm = mlp_index(arm, MLP_ARM_MODEL + 1);
	cost = mlp_clamp(cost, -MLP_COST_LIMIT, MLP_COST_LIMIT);
	publish_outcome(p, MLP_RECORD_OUTCOME, arm, unit, cost, 0, now);
	if (!scored(p, now))
		return;
	mlp_ledger_cost(&c->whole, arm, cost);
	if (arm == MLP_ARM_DEFAULT) {
		learn_usual(u, cost);
	} else if (mlp_live(p->state) && spiked(p, c, u, u->mean, cost)) {
		mlp_event(p, MLP_EVENT_SPIKE, MLP_REASON_COST_SPIKE, now);
		return;
	}
	/* Means over the same stretch make a pair as soon as both arms have one. */
	if (c->open_count[arm] < 1 << 16) {
		c->open_sum[arm] += cost;
		c->open_count[arm]++;
	}
	if (!c->open_count[0] || !c->open_count[1])
		return;
	mean[0] = mlp_sdiv(c->open_sum[0], c->open_count[0]);
	mean[1] = mlp_sdiv(c->open_sum[1], c->open_count[1]);
	arm = c->open_count[1];
	memset(c->open_sum, 0, sizeof(c->open_sum));
	memset(c->open_count, 0, sizeof(c->open_count));
	pair(p, c, mean[0], mean[1], arm, now);
}

void mlp_report_twin(struct mlp_proxy *p, __s64 cost_default, __s64 cost_model, __u64 now)
{
	struct mlp_court *c = &p->twin_court;
	struct mlp_usual *u = &p->twin_usual;

	cost_default = mlp_clamp(cost_default, -MLP_COST_LIMIT, MLP_COST_LIMIT);
	cost_model = mlp_clamp(cost_model, -MLP_COST_LIMIT, MLP_COST_LIMIT);
	publish_outcome(p, MLP_RECORD_TWIN, MLP_ARM_MODEL, 0, cost_default, cost_model, now);
	mlp_ledger_cost(&c->whole, MLP_ARM_DEFAULT, cost_default);
	mlp_ledger_cost(&c->whole, MLP_ARM_MODEL, cost_model);
	if (mlp_live(p->state) && spiked(p, c, u, cost_default, cost_model)) {
		mlp_event(p, MLP_EVENT_SPIKE, MLP_REASON_COST_SPIKE, now);
		return;
	}
	/* A window that is too dear shall not become usual. */
	if (u->count < MLP_USUAL_COUNT || !above(p, u, cost_default, cost_model))
		learn_usual(u, cost_model - cost_default);
	pair(p, c, cost_default, cost_model, 1, now);
}
