// SPDX-License-Identifier: GPL-2.0-only
/*
 * Knobs: tunables of other subsystems that a proxy holds through open files.
 *
 * A model's setting is written for a model's epoch; in every other time, on
 * emergency and when the agent is gone, the default is put back. A value that
 * somebody else has written is left alone, and is an operator's word.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include "mlproxy_module.h"

#define NO_EPOCH	(~0ULL)

struct mlp_held {
	struct file *file;
	s64 min;
	s64 max;
	char restore[MLP_KNOB_TEXT];
	char seen[MLP_KNOB_TEXT];	/* what it read after our last write */
	bool readable;
};

struct mlp_knobs {
	struct mutex lock;		/* all of this; writes may sleep */
	struct list_head node;		/* mlp_held_lock */
	u32 nr;
	u32 applied;			/* a model's setting is in force */
	u32 overridden;			/* 1 + index */
	s64 setting;
	s32 default_action;
	u64 epoch;			/* that was decided, or NO_EPOCH */
	struct mlp_decision decision;
	u64 writes, restores, failures;
	s64 *settings;			/* [max + 1][nr], or NULL: the value itself */
	struct mlp_held held[MLP_MAX_KNOBS];
};

/* A knob has one owner: two proxies would fight for it. */
static DEFINE_MUTEX(mlp_held_lock);
static LIST_HEAD(mlp_held_list);

/*
 * With the rights of whoever opened the file: some handlers ask for them when
 * written, and ours are none of their business.
 */
static int put_text(struct mlp_held *h, const char *text)
{
	const struct cred *old = override_creds(h->file->f_cred);
	loff_t pos = 0;
	ssize_t done = kernel_write(h->file, text, strlen(text), &pos);

	revert_creds(old);
	return done < 0 ? (int)done : 0;
}

static int get_text(struct mlp_held *h, char *text)
{
	const struct cred *old = override_creds(h->file->f_cred);
	loff_t pos = 0;
	ssize_t done = kernel_read(h->file, text, MLP_KNOB_TEXT - 1, &pos);

	revert_creds(old);
	if (done < 0)
		return (int)done;
	text[done] = '\0';
	return 0;
}

static void remember(struct mlp_held *h)
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

/* The defaults, but not over a value that is somebody else's. */
static void restore(struct mlproxy *p, struct mlp_knobs *k)
{
	char text[MLP_KNOB_TEXT];
	u32 i;
	int err;

	if (!k->applied)
		return;
	for (i = 0; i < k->nr; i++) {
		struct mlp_held *h = &k->held[i];

		if (h->readable && !get_text(h, text) && strcmp(text, h->seen)) {
			overridden(p, k, i + 1);
			continue;
		}
		err = put_text(h, h->restore);
		if (err)
			fail(p, k, i, err);
		remember(h);
	}
	k->applied = 0;
	k->restores++;
}

static void apply(struct mlproxy *p, struct mlp_knobs *k, s32 action)
{
	u32 i, which;
	int err;

	if (k->applied && k->setting == action) {
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
	k->setting = action;
	k->writes++;
	for (i = 0; i < k->nr; i++) {
		struct mlp_held *h = &k->held[i];
		char text[24];

		snprintf(text, sizeof(text), "%lld",
			 k->settings ? k->settings[action * k->nr + i] : action);
		err = put_text(h, text);
		remember(h);
		if (err) {
			fail(p, k, i, err);
			restore(p, k);
			return;
		}
	}
}

/* What the proxy wants now: a decision per epoch, void when it loses its right. */
static u64 decide(struct mlproxy *p, struct mlp_knobs *k)
{
	struct mlp_proxy *core = &p->core;
	unsigned long flags = mlp_enter(p);
	u64 now = mlp_now(p), epoch, passed;

	epoch = div64_u64_rem(now, core->cfg.epoch, &passed);
	if (!core->share) {
		k->epoch = NO_EPOCH;
		k->decision.arm = MLP_ARM_DEFAULT;
	} else if (k->epoch != epoch) {
		mlp_decide(core, 0, NULL, epoch, k->default_action, now, &k->decision);
		k->epoch = epoch;
	} else if (!mlp_valid(core, 0, now)) {
		k->decision.arm = MLP_ARM_DEFAULT;
	}
	mlp_leave(p, flags);
	return core->cfg.epoch - passed;
}

u64 mlp_knobs_run(struct mlproxy *p)
{
	struct mlp_knobs *k = p->knobs;
	u64 rest;

	mutex_lock(&k->lock);
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
	k->epoch = NO_EPOCH;
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
	mutex_unlock(&k->lock);
	return 0;
}

/* Of procfs only what is below /proc/sys: the rest belongs to processes. */
static bool below_proc_sys(struct file *file)
{
	char buffer[128], *path = dentry_path_raw(file->f_path.dentry, buffer, sizeof(buffer));

	return !IS_ERR(path) && strstarts(path, "/sys/");
}

static int check_file(struct file *file)
{
	if (!(file->f_mode & FMODE_WRITE) || !(file->f_mode & FMODE_CAN_WRITE))
		return -EBADF;
	if (!S_ISREG(file_inode(file)->i_mode))
		return -EOPNOTSUPP;
	switch (file_inode(file)->i_sb->s_magic) {
	case SYSFS_MAGIC:
	case CGROUP2_SUPER_MAGIC:
		return 0;
	case PROC_SUPER_MAGIC:
		return below_proc_sys(file) ? 0 : -EOPNOTSUPP;
	default:
		return -EOPNOTSUPP;
	}
}

static int take(struct mlp_held *h, const struct mlp_knob *knob)
{
	int err;

	if (knob->flags || memchr_inv(knob->reserved, 0, sizeof(knob->reserved)) ||
	    knob->max < knob->min || !knob->restore[0] ||
	    strnlen(knob->restore, MLP_KNOB_TEXT) == MLP_KNOB_TEXT)
		return -EINVAL;
	h->file = fget(knob->fd);
	if (!h->file)
		return -EBADF;
	err = check_file(h->file);
	if (err)
		return err;
	h->min = knob->min;
	h->max = knob->max;
	strscpy(h->restore, knob->restore, sizeof(h->restore));
	h->readable = (h->file->f_mode & FMODE_READ) && (h->file->f_mode & FMODE_CAN_READ);
	remember(h);
	return 0;
}

static int check_settings(const struct mlp_knobs *k, const struct mlp_config *cfg)
{
	const struct mlp_held *h = k->held;
	u32 i;

	if (!k->settings)
		return cfg->min < h->min || cfg->max > h->max ? -ERANGE : 0;
	for (i = 0; i < (cfg->max + 1) * k->nr; i++)
		if (k->settings[i] < h[i % k->nr].min || k->settings[i] > h[i % k->nr].max)
			return -ERANGE;
	return 0;
}

static int check_shape(const struct mlp_ioc_create *how)
{
	const struct mlp_config *cfg = &how->config;

	if (cfg->trial != MLP_TRIAL_SWITCHBACK || how->clock != MLP_CLOCK_MONOTONIC ||
	    cfg->nr_features || cfg->nr_streams != 1)
		return -EINVAL;
	if (cfg->kind == MLP_KIND_VALUE)
		return how->nr_knobs != 1 || how->nr_settings || how->settings ? -EINVAL : 0;
	if (cfg->kind == MLP_KIND_CHOICE)
		return how->nr_settings != cfg->max + 1 ? -EINVAL : 0;
	return -EINVAL;
}

static bool same_knob(const struct mlp_knobs *a, const struct mlp_knobs *b)
{
	u32 i, j;

	for (i = 0; i < a->nr; i++)
		for (j = 0; j < b->nr; j++)
			if (file_inode(a->held[i].file) == file_inode(b->held[j].file) &&
			    (a != b || i != j))
				return true;
	return false;
}

static int become_owner(struct mlp_knobs *k)
{
	struct mlp_knobs *other;
	int err = same_knob(k, k) ? -EBUSY : 0;

	mutex_lock(&mlp_held_lock);
	list_for_each_entry(other, &mlp_held_list, node)
		if (same_knob(k, other))
			err = -EBUSY;
	if (!err)
		list_add(&k->node, &mlp_held_list);
	mutex_unlock(&mlp_held_lock);
	return err;
}

static void free_knobs(struct mlp_knobs *k)
{
	u32 i;

	for (i = 0; i < k->nr; i++)
		if (k->held[i].file)
			fput(k->held[i].file);
	mutex_destroy(&k->lock);
	kfree(k->settings);
	kfree(k);
}

static int fill(struct mlp_knobs *k, const struct mlp_ioc_create *how)
{
	struct mlp_knob knobs[MLP_MAX_KNOBS];
	u32 i;
	int err;

	if (copy_from_user(knobs, u64_to_user_ptr(how->knobs), how->nr_knobs * sizeof(*knobs)))
		return -EFAULT;
	for (i = 0; i < how->nr_knobs; i++) {
		k->nr = i + 1;	/* so many files are there to give back */
		err = take(&k->held[i], &knobs[i]);
		if (err)
			return err;
	}
	if (how->nr_settings) {
		k->settings = memdup_user(u64_to_user_ptr(how->settings),
					  how->nr_settings * k->nr * sizeof(*k->settings));
		if (IS_ERR(k->settings)) {
			err = PTR_ERR(k->settings);
			k->settings = NULL;
			return err;
		}
	}
	return check_settings(k, &how->config);
}

/* Nothing is written yet. The proxy is not visible yet. */
int mlp_knobs_take(struct mlproxy *p, const struct mlp_ioc_create *how)
{
	struct mlp_knobs *k;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	err = check_shape(how);
	if (err)
		return err;
	k = kzalloc(sizeof(*k), GFP_KERNEL_ACCOUNT);
	if (!k)
		return -ENOMEM;
	mutex_init(&k->lock);
	k->epoch = NO_EPOCH;
	k->default_action = how->default_action;
	err = fill(k, how);
	if (!err)
		err = become_owner(k);
	if (err) {
		free_knobs(k);
		return err;
	}
	p->knobs = k;
	return 0;
}

/* Gives them back, restored by now. No work of the proxy's runs any more. */
void mlp_knobs_release(struct mlproxy *p)
{
	struct mlp_knobs *k = p->knobs;

	if (!k)
		return;
	mutex_lock(&mlp_held_lock);
	list_del(&k->node);
	mutex_unlock(&mlp_held_lock);
	p->knobs = NULL;
	free_knobs(k);
}
