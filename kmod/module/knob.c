// SPDX-License-Identifier: GPL-2.0-only
/*
 * Knobs: tunables of other subsystems that a proxy holds through open files.
 *
 * A model's setting is written for a model's epoch; in every other time, on
 * emergency and when the agent is gone, the default is put back. A value that
 * somebody else has written is left alone, and is an operator's word.
 */
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/string.h>
#include "knob.h"
#include "trace.h"

/*
 * With the rights of whoever opened the file: some handlers ask for them when
 * written, and ours are none of their business.
 */
int mlp_knob_put(struct mlp_held *h, const char *text)
{
	const struct cred *old = override_creds(h->file->f_cred);
	loff_t pos = 0;
	ssize_t done = kernel_write(h->file, text, strlen(text), &pos);

	revert_creds(old);
	return done < 0 ? (int)done : 0;
}

/* Errors that may be over in a moment. */
static bool passing(int err)
{
	return err == -EBUSY || err == -EAGAIN || err == -EINTR || err == -ERESTARTSYS ||
	       err == -ENOMEM;
}

/*
 * What must not stay as it is. Some handlers only try their lock (DAMON's), and
 * some waits end early in an agent that dies of a signal.
 */
int mlp_knob_put_back(struct mlp_held *h)
{
	int err, tries = 10;

	do {
		err = mlp_knob_put(h, h->restore);
		if (!passing(err))
			break;
		msleep(20);
	} while (--tries);
	return err;
}

static int get_text(struct mlp_held *h, char *text)
{
	const struct cred *old = override_creds(h->file->f_cred);
	loff_t pos = 0;
	ssize_t done = kernel_read(h->file, text, MLP_KNOB_TEXT - 1, &pos);

	revert_creds(old);
	if (done < 0)
		return (int)done;
	if (done == MLP_KNOB_TEXT - 1)	/* only its beginning: nothing to compare or put back */
		return -E2BIG;
	text[done] = '\0';
	return 0;
}

void mlp_knob_remember(struct mlp_held *h)
{
	/* What cannot be read back is not compared either. */
	if (h->readable && get_text(h, h->seen))
		h->readable = false;
}

/* Returns 1 + the index of a knob that no longer reads as we left it, or 0. */
static u32 changed_by_others(struct mlp_knobs *k)
{
	char text[MLP_KNOB_TEXT];
	u32 i;

	for (i = 0; i < k->nr; i++)
		if (k->held[i].readable && !get_text(&k->held[i], text) &&
		    strcmp(text, k->held[i].seen))
			return i + 1;
	return 0;
}

static void fail(struct mlproxy *p, struct mlp_knobs *k, u32 knob, int err)
{
	unsigned long flags;

	k->failures++;
	dev_warn_ratelimited(&p->dev, "knob %u did not take a value: %d\n", knob, err);
	flags = mlp_enter(p);
	mlp_set_mode(&p->core, MLP_MODE_EMERGENCY, MLP_REASON_WRITE_FAILED, mlp_now(p));
	mlp_leave(p, flags);
}

static void overridden(struct mlproxy *p, struct mlp_knobs *k, u32 which)
{
	unsigned long flags;

	if (k->overridden)
		return;
	k->overridden = which;
	dev_warn(&p->dev, "knob %u was changed by somebody else, hands off\n", which - 1);
	flags = mlp_enter(p);
	mlp_override(&p->core, mlp_now(p));
	mlp_leave(p, flags);
}

/* Returns whether one of them is worth another try. */
static bool pull_triggers(struct mlproxy *p, struct mlp_knobs *k)
{
	bool again = false;
	u32 i;
	int err;

	for (i = 0; i < k->nr; i++) {
		if (!mlp_is_trigger(&k->held[i]))
			continue;
		err = mlp_knob_put(&k->held[i], k->held[i].trigger);
		if (err)
			fail(p, k, i, err);
		again |= passing(err);
	}
	return again;
}

/* The defaults, but not over a value that is somebody else's. */
static void restore(struct mlproxy *p, struct mlp_knobs *k)
{
	char text[MLP_KNOB_TEXT];
	bool again = false;
	u32 i;
	int err;

	if (!k->applied)
		return;
	for (i = 0; i < k->nr; i++) {
		struct mlp_held *h = &k->held[i];

		if (mlp_is_trigger(h))
			continue;
		if (h->readable && !get_text(h, text) && strcmp(text, h->seen)) {
			overridden(p, k, i + 1);
			continue;
		}
		err = mlp_knob_put_back(h);
		if (err)
			fail(p, k, i, err);
		again |= passing(err);
		mlp_knob_remember(h);
	}
	again |= pull_triggers(p, k);
	k->unsure = again;	/* the next work tries again */
	k->applied = again;
	k->restores += !again;
	k->since = ktime_get_ns();
}

static void apply(struct mlproxy *p, struct mlp_knobs *k, s32 action)
{
	u32 i, which;
	int err;

	if (k->applied && !k->unsure && k->setting == action) {
		which = changed_by_others(k);
		if (which)
			overridden(p, k, which);
		return;
	}
	which = changed_by_others(k);
	if (which) {
		overridden(p, k, which);
		return;
	}
	k->applied = 1;		/* also when only some of them take it */
	k->unsure = false;
	k->setting = action;
	k->writes++;
	for (i = 0; i < k->nr; i++) {
		struct mlp_held *h = &k->held[i];
		char text[24];

		if (mlp_is_trigger(h))
			continue;
		snprintf(text, sizeof(text), "%lld",
			 k->settings ? k->settings[action * k->nr + i] : action);
		err = mlp_knob_put(h, text);
		mlp_knob_remember(h);
		if (err) {
			fail(p, k, i, err);
			restore(p, k);
			return;
		}
	}
	pull_triggers(p, k);
	k->since = ktime_get_ns();
}

/* The operator has released the proxy: what he had written is the default now. */
static void adopt(struct mlp_knobs *k)
{
	char text[MLP_KNOB_TEXT];
	u32 i;

	for (i = 0; i < k->nr; i++) {
		struct mlp_held *h = &k->held[i];

		if (!h->readable || get_text(h, text) || !strcmp(text, h->seen))
			continue;
		strscpy(h->seen, text, sizeof(h->seen));
		strscpy(h->restore, strim(text), sizeof(h->restore));
	}
	k->overridden = 0;
}

/* What the proxy wants now: a decision per epoch, void when it loses its right. */
static u64 decide(struct mlproxy *p, struct mlp_knobs *k)
{
	struct mlp_proxy *core = &p->core;
	unsigned long flags = mlp_enter(p);
	u64 now = mlp_now(p), epoch, passed, rest;

	epoch = div64_u64_rem(now, core->cfg.epoch, &passed);
	if (!core->share) {
		k->epoch = MLP_NO_EPOCH;
		k->decision.arm = MLP_ARM_DEFAULT;
	} else if (k->epoch != epoch) {
		mlp_decide(core, 0, NULL, epoch, k->default_action, now, &k->decision);
		trace_mlproxy_decision(core->cfg.name, 0, epoch, k->default_action, &k->decision);
		k->epoch = epoch;
	} else if (!mlp_valid(core, 0, now)) {
		k->decision.arm = MLP_ARM_DEFAULT;
	}
	rest = core->cfg.epoch - passed;
	mlp_leave(p, flags);
	return rest;
}

u64 mlp_knobs_run(struct mlproxy *p)
{
	struct mlp_knobs *k = p->knobs;
	unsigned long flags;
	bool released;
	u64 rest;

	mutex_lock(&k->lock);
	flags = mlp_enter(p);
	released = !(p->core.holds & MLP_HOLD_OPERATOR);
	mlp_leave(p, flags);
	if (k->overridden && released)
		adopt(k);
	rest = decide(p, k);
	if (k->decision.arm == MLP_ARM_MODEL)
		apply(p, k, k->decision.action);
	else
		restore(p, k);
	mutex_unlock(&k->lock);
	return rest;
}

void mlp_knobs_restore(struct mlproxy *p)
{
	struct mlp_knobs *k = p->knobs;

	mutex_lock(&k->lock);
	k->epoch = MLP_NO_EPOCH;
	k->decision.arm = MLP_ARM_DEFAULT;
	restore(p, k);
	mutex_unlock(&k->lock);
}

int mlp_knobs_state(struct mlproxy *p, struct mlp_ioc_knobs *out)
{
	struct mlp_knobs *k = p->knobs;

	if (!k)
		return -ENOENT;
	mutex_lock(&k->lock);
	out->applied = k->applied;
	out->overridden = k->overridden;
	out->setting = k->setting;
	out->writes = k->writes;
	out->restores = k->restores;
	out->failures = k->failures;
	out->since = k->since;
	mutex_unlock(&k->lock);
	return 0;
}
