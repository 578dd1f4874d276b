// SPDX-License-Identifier: GPL-2.0-only
/* How a proxy comes to its knobs, and gives them back. */
#include <linux/capability.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "knob.h"

/* A knob has one owner: two proxies would fight for it. */
static DEFINE_MUTEX(mlp_held_lock);
static LIST_HEAD(mlp_held_list);

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
	    strnlen(knob->restore, MLP_KNOB_TEXT) == MLP_KNOB_TEXT ||
	    strnlen(knob->trigger, MLP_KNOB_TEXT) == MLP_KNOB_TEXT ||
	    (knob->trigger[0] && (knob->min || knob->max)))
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
	strscpy(h->trigger, knob->trigger, sizeof(h->trigger));
	/* A trigger reads as what it did, not as what was written. */
	h->readable = !mlp_is_trigger(h) && (h->file->f_mode & FMODE_READ) &&
		      (h->file->f_mode & FMODE_CAN_READ);
	mlp_knob_remember(h);
	return 0;
}

static int bad(struct mlp_ioc_create *how, const char *what, u32 index, int err)
{
	memset(how->bad, 0, sizeof(how->bad));
	snprintf(how->bad, sizeof(how->bad), what, index);
	return err;
}

static int check_settings(const struct mlp_knobs *k, struct mlp_ioc_create *how)
{
	const struct mlp_config *cfg = &how->config;
	const struct mlp_held *h = k->held;
	u32 i;

	if (!k->settings) {
		if (mlp_is_trigger(h))
			return bad(how, "knobs[%u]", 0, -EINVAL);
		for (i = 1; i < k->nr; i++)
			if (!mlp_is_trigger(&h[i]))
				return bad(how, "knobs[%u]", i, -EINVAL);
		return cfg->min < h->min || cfg->max > h->max ?
			bad(how, "knobs[%u]", 0, -ERANGE) : 0;
	}
	for (i = 0; i < how->nr_settings * k->nr; i++)
		if (k->settings[i] < h[i % k->nr].min || k->settings[i] > h[i % k->nr].max)
			return bad(how, "settings[%u]", i, -ERANGE);
	return 0;
}

static int check_shape(struct mlp_ioc_create *how)
{
	const struct mlp_config *cfg = &how->config;

	if (cfg->trial != MLP_TRIAL_SWITCHBACK)
		return bad(how, "trial", 0, -EINVAL);
	if (how->clock != MLP_CLOCK_MONOTONIC)
		return bad(how, "clock", 0, -EINVAL);
	if (cfg->nr_features)
		return bad(how, "nr_features", 0, -EINVAL);
	if (cfg->nr_streams != 1)
		return bad(how, "nr_streams", 0, -EINVAL);
	if (cfg->kind == MLP_KIND_VALUE)
		return how->nr_settings || how->settings ?
			bad(how, "settings", 0, -EINVAL) : 0;
	if (cfg->kind == MLP_KIND_CHOICE)
		return how->nr_settings != cfg->max + 1 ?
			bad(how, "nr_settings", 0, -EINVAL) : 0;
	return bad(how, "kind", 0, -EINVAL);
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

static int fill(struct mlp_knobs *k, struct mlp_ioc_create *how)
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
			return bad(how, "knobs[%u]", i, err);
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
	return check_settings(k, how);
}

/* Nothing is written yet. The proxy is not visible yet. */
int mlp_knobs_take(struct mlproxy *p, struct mlp_ioc_create *how)
{
	struct mlp_knobs *k;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return bad(how, "knobs", 0, -EPERM);
	err = check_shape(how);
	if (err)
		return err;
	k = kzalloc(sizeof(*k), GFP_KERNEL_ACCOUNT);
	if (!k)
		return -ENOMEM;
	mutex_init(&k->lock);
	k->epoch = MLP_NO_EPOCH;
	k->default_action = how->default_action;
	err = fill(k, how);
	if (!err) {
		err = become_owner(k);
		if (err)
			bad(how, "knobs", 0, err);
	}
	if (err) {
		free_knobs(k);
		return err;
	}
	p->knobs = k;
	return 0;
}

/* Gives them back, restored by now; @end: as the end of a proxy that was. */
void mlp_knobs_release(struct mlproxy *p, bool end)
{
	struct mlp_knobs *k = p->knobs;
	u32 i;

	if (!k)
		return;
	/* What somebody else has taken over is not ended by us. */
	for (i = 0; end && i < k->nr && !k->overridden; i++)
		if (mlp_is_trigger(&k->held[i]))
			mlp_knob_put_back(&k->held[i]);
	mutex_lock(&mlp_held_lock);
	list_del(&k->node);
	mutex_unlock(&mlp_held_lock);
	p->knobs = NULL;
	free_knobs(k);
}
