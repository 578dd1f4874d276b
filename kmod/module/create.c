// SPDX-License-Identifier: GPL-2.0-only
/* How a file comes to its proxy: made, attached to, begun anew. */
#include <linux/capability.h>
#include <linux/err.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "mlproxy_module.h"

static int check_config(const struct mlp_config *config, char *out)
{
	const char *bad = "";

	memset(out, 0, 32);
	if (!mlp_config_check(config, &bad))
		return 0;
	strscpy(out, bad, 32);
	return -EINVAL;
}

/* Says which field an error is about. */
static int bad(struct mlp_ioc_create *how, const char *field, int err)
{
	strscpy_pad(how->bad, field, sizeof(how->bad));
	return err;
}

static int check_create(struct mlp_ioc_create *how)
{
	if (how->abi_version != MLP_ABI_VERSION)
		return bad(how, "abi_version", -EPROTONOSUPPORT);
	if (memchr_inv(how->reserved, 0, sizeof(how->reserved)))
		return bad(how, "reserved", -EINVAL);
	if (how->clock > MLP_CLOCK_CALLER)
		return bad(how, "clock", -EINVAL);
	if (!is_power_of_2(how->capacity) || how->capacity > MLP_MAX_CAPACITY)
		return bad(how, "capacity", -EINVAL);
	if (how->nr_knobs > MLP_MAX_KNOBS)
		return bad(how, "nr_knobs", -EINVAL);
	if (!how->nr_knobs && how->knobs)
		return bad(how, "knobs", -EINVAL);
	if (!how->nr_knobs && (how->settings || how->nr_settings))
		return bad(how, "settings", -EINVAL);
	return check_config(&how->config, how->bad);
}

static int create(struct file *file, struct mlp_ioc_create *how)
{
	struct mlproxy_desc desc = {
		.config = &how->config,
		.capacity = how->capacity,
		.rights = MLP_AGENT_REPORTS | MLP_AGENT_TWINS,
	};
	struct mlproxy *p;
	int err;

	if (!how->nr_knobs)
		desc.rights |= MLP_AGENT_DECIDES;
	p = mlp_proxy_create(&desc, how->clock);
	if (IS_ERR(p))
		return PTR_ERR(p) == -EINVAL ? bad(how, "name", -EINVAL) : PTR_ERR(p);
	p->owned = true;
	if (how->nr_knobs) {
		err = mlp_knobs_take(p, how);
		if (err)
			goto put;
	}
	err = mlp_proxy_add(p);
	if (err) {
		bad(how, "name", err);
		goto knobs;
	}
	mutex_lock(&mlp_list_lock);
	if (mlp_file_proxy(file))
		err = -EISCONN;
	else
		mlp_file_bind(file, p);
	mutex_unlock(&mlp_list_lock);
	if (err)	/* another thread was quicker */
		mlp_proxy_remove(p);
	return err;

knobs:
	mlp_knobs_release(p, false);
put:
	put_device(&p->dev);
	return err;
}

long mlp_ioc_create(struct file *file, void __user *arg)
{
	struct mlp_ioc_create *how;
	long err;

	if (mlp_file_proxy(file))
		return -EISCONN;
	how = memdup_user(arg, sizeof(*how));
	if (IS_ERR(how))
		return PTR_ERR(how);
	memset(how->bad, 0, sizeof(how->bad));
	err = check_create(how);
	if (!err)
		err = create(file, how);
	if (err && copy_to_user(arg, how, sizeof(*how)))
		err = -EFAULT;
	kfree(how);
	return err;
}

static int attach(struct file *file, struct mlp_ioc_attach *how)
{
	unsigned long flags;
	struct mlproxy *p;
	int err = 0;

	mutex_lock(&mlp_list_lock);
	p = mlp_find(how->name);
	if (mlp_file_proxy(file))
		err = -EISCONN;
	else if (!p || p->leaving)
		err = -ENOENT;
	else if (p->agent || p->owned)
		err = -EBUSY;
	if (!err) {
		how->clock = p->clock;
		how->capacity = p->capacity;
		how->rights = p->rights;
		how->config = p->core.cfg;	/* only an agent could change it */
		flags = mlp_enter(p);
		p->watchdog = how->watchdog;
		p->watermark = 1;
		p->woken = false;
		mlp_leave(p, flags);
		mlp_file_bind(file, p);
	}
	mutex_unlock(&mlp_list_lock);
	return err;
}

long mlp_ioc_attach(struct file *file, void __user *arg)
{
	struct mlp_ioc_attach *how = memdup_user(arg, sizeof(*how));
	long err;

	if (IS_ERR(how))
		return PTR_ERR(how);
	if (how->abi_version != MLP_ABI_VERSION)
		err = -EPROTONOSUPPORT;
	else if (memchr_inv(how->reserved, 0, sizeof(how->reserved)) ||
		 strnlen(how->name, sizeof(how->name)) == sizeof(how->name))
		err = -EINVAL;
	else
		err = attach(file, how);
	if (!err && copy_to_user(arg, how, sizeof(*how)))
		err = -EFAULT;
	kfree(how);
	return err;
}

/* What the decision is cannot be changed by its agent. */
static bool same_decision(const struct mlp_config *a, const struct mlp_config *b)
{
	return !strcmp(a->name, b->name) && a->kind == b->kind && a->trial == b->trial &&
	       a->nr_features == b->nr_features && a->nr_streams == b->nr_streams &&
	       a->max_nodes == b->max_nodes && a->min == b->min && a->max == b->max;
}

static long reinit(struct mlproxy *p, const struct mlp_ioc_reinit *how)
{
	unsigned long flags;
	long err;

	/* What an in-kernel user has laid down is not its agent's to loosen. */
	if (!p->owned && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	flags = mlp_enter(p);
	if (p->clock == MLP_CLOCK_CALLER)
		p->caller_now = how->now;
	if (p->core.state != MLP_STATE_STOPPED) {
		err = -EBUSY;
	} else if (!same_decision(&how->config, &p->core.cfg)) {
		err = -EPERM;
	} else {
		mlp_walk_fn walk = p->core.walk;
		void *context = p->core.walk_context;
		u32 holds = p->core.holds;

		/* What an operator holds stays held. */
		err = mlp_init(&p->core, &how->config, p->slots, p->ring, p->capacity,
			       mlp_now(p));
		p->core.holds = holds;
		mlp_set_walker(&p->core, walk, context);
		p->seen_seq = 0;
		p->seen_mode = mlp_mode_of(&p->core);
		p->woken = false;	/* what is unread has gone with the ring's content */
	}
	mlp_leave(p, flags);
	return err;
}

/* User memory is touched without the mutex, see do_submit(). */
long mlp_ioc_reinit(struct mlproxy *p, void __user *arg)
{
	struct mlp_ioc_reinit *how = memdup_user(arg, sizeof(*how));
	long err = -EINVAL;

	if (IS_ERR(how))
		return PTR_ERR(how);
	if (memchr_inv(how->reserved, 0, sizeof(how->reserved)))
		goto out;
	err = check_config(&how->config, how->bad);
	if (err) {
		if (copy_to_user(arg, how, sizeof(*how)))
			err = -EFAULT;
		goto out;
	}
	mutex_lock(&p->mutex);
	err = p->gone ? -ENODEV : reinit(p, how);
	mutex_unlock(&p->mutex);
out:
	kfree(how);
	return err;
}
