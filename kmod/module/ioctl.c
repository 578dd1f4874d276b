// SPDX-License-Identifier: GPL-2.0-only
/* The agent's calls: one table, one function each. */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "mlproxy_module.h"
#include "trace.h"

union mlp_args {
	struct mlp_ioc_time time;
	struct mlp_ioc_mode mode;
	struct mlp_ioc_switch on_off;
	struct mlp_ioc_consume consume;
	struct mlp_ioc_watermark watermark;
	struct mlp_ioc_snapshot snapshot;
	struct mlp_ioc_decide decide;
	struct mlp_ioc_rank rank;
	struct mlp_ioc_report report;
	struct mlp_ioc_twin twin;
	struct mlp_ioc_publish publish;
	struct mlp_ioc_knobs knobs;
};

/* Like mlp_enter(), in the time that the caller says, if it is his to say. */
static unsigned long enter_at(struct mlproxy *p, u64 now) __acquires(&p->lock)
{
	unsigned long flags = mlp_enter(p);

	if (p->clock == MLP_CLOCK_CALLER)
		p->caller_now = now;
	return flags;
}

static long do_start(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;
	long err;

	if (a->time.reserved)
		return -EINVAL;
	flags = enter_at(p, a->time.now);
	p->heartbeat = ktime_get_ns();
	err = mlp_start(&p->core, mlp_now(p));
	mlp_leave(p, flags);
	if (!err)
		mlp_agent_schedule(p);
	return err;
}

static long do_stop(struct mlproxy *p, union mlp_args *a)
{
	if (a->mode.reserved || a->mode.mode || a->mode.reason >= MLP_REASON_NR)
		return -EINVAL;
	mlp_leave(p, enter_at(p, a->mode.now));
	mlp_agent_stop(p, a->mode.reason);
	return 0;
}

static long do_heartbeat(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->time.reserved)
		return -EINVAL;
	flags = enter_at(p, a->time.now);
	p->heartbeat = ktime_get_ns();
	if (p->watchdog)
		mlp_silent(&p->core, 0, mlp_now(p));
	mlp_heartbeat(&p->core, mlp_now(p));
	mlp_leave(p, flags);
	return 0;
}

static long do_tick(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->time.reserved || p->clock != MLP_CLOCK_CALLER)
		return -EINVAL;
	flags = enter_at(p, a->time.now);
	mlp_tick(&p->core, mlp_now(p));
	mlp_leave(p, flags);
	return 0;
}

static long errno_of(u32 why)
{
	static const short table[MLP_REJECT_NR] = {
		[MLP_REJECT_VERSION] = EPROTO,
		[MLP_REJECT_KIND] = EPROTOTYPE,
		[MLP_REJECT_RANGE] = ERANGE,
		[MLP_REJECT_EXPIRED] = ETIME,
		[MLP_REJECT_EXPIRY] = EOVERFLOW,
		[MLP_REJECT_REPLAY] = EALREADY,
		[MLP_REJECT_CANDIDATE] = ENXIO,
		[MLP_REJECT_DUPLICATE] = EEXIST,
		[MLP_REJECT_SIZE] = EMSGSIZE,
		[MLP_REJECT_INDEX] = EBADSLT,
		[MLP_REJECT_CYCLE] = ELOOP,
		[MLP_REJECT_DEPTH] = E2BIG,
		[MLP_REJECT_LEAF] = ERANGE,
		[MLP_REJECT_RESERVED] = EINVAL,
		[MLP_REJECT_MODEL] = EKEYREJECTED,
		[MLP_REJECT_STATE] = ESHUTDOWN,
	};

	return -table[why];
}

/*
 * The check runs without the proxy's lock: it reads what only the agent's
 * calls change, which the mutex keeps apart, and writes the slot that no
 * decision reads (core/submit.c). Of a recommendation that is too long @data
 * holds what may be looked at before its length is.
 */
static long submit(struct mlproxy *p, const void *data, struct mlp_ioc_submit *a)
{
	struct mlp_submission submission;
	unsigned long flags;
	u32 why;
	u64 now;

	flags = enter_at(p, a->now);
	now = mlp_now(p);
	mlp_leave(p, flags);
	why = mlp_submit_check(&p->core, data, a->length, now, &submission);
	flags = mlp_enter(p);
	if (why) {
		trace_mlproxy_reject(p->core.cfg.name, why, now);
		mlp_count_reject(&p->core, why, now);
	} else {
		mlp_submit_commit(&p->core, &submission);
	}
	mlp_leave(p, flags);
	a->reject = why;
	return errno_of(why);
}

/*
 * User memory is read before the mutex is taken: whoever delays its page faults
 * would otherwise delay the owner's mlproxy_unregister().
 */
static long do_submit(struct mlproxy *p, void __user *arg)
{
	struct mlp_ioc_submit a;
	long err = -ENODEV;
	void *data;

	if (copy_from_user(&a, arg, sizeof(a)))
		return -EFAULT;
	if (a.reserved)
		return -EINVAL;
	data = vmemdup_user(u64_to_user_ptr(a.data), min(a.length, p->longest));
	if (IS_ERR(data))
		return PTR_ERR(data);
	mutex_lock(&p->mutex);
	if (!p->gone)
		err = submit(p, data, &a);
	mutex_unlock(&p->mutex);
	kvfree(data);
	return copy_to_user(arg, &a, sizeof(a)) ? -EFAULT : err;
}

static long do_set_mode(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;
	bool may;
	long err;

	if (a->mode.reserved)
		return -EINVAL;
	/* Asked before the lock is held, and only by who needs it: it is audited. */
	may = a->mode.mode == MLP_MODE_EMERGENCY || capable(CAP_SYS_ADMIN);
	flags = enter_at(p, a->mode.now);
	if (a->mode.mode > mlp_mode_of(&p->core) && !may)
		err = -EPERM;
	else
		err = mlp_set_mode(&p->core, a->mode.mode, a->mode.reason, mlp_now(p));
	mlp_leave(p, flags);
	return err;
}

static long do_operator(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;
	long err = 0;

	if (a->on_off.reserved || a->on_off.flags || a->on_off.on > 1)
		return -EINVAL;
	if (!a->on_off.on && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	flags = enter_at(p, a->on_off.now);
	/* The button is pressed before it holds this proxy, under this lock. */
	if (!a->on_off.on && READ_ONCE(mlp_panic))
		err = -EBUSY;
	else
		mlp_operator(&p->core, a->on_off.on, mlp_now(p));
	mlp_leave(p, flags);
	return err;
}

static long do_critical(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->on_off.reserved || a->on_off.flags || a->on_off.on > 1)
		return -EINVAL;
	flags = enter_at(p, a->on_off.now);
	mlp_set_critical(p, MLP_CRITICAL_AGENT, a->on_off.on);
	mlp_leave(p, flags);
	return 0;
}

static long do_consume(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;
	long err;

	if (a->consume.reserved)
		return -EINVAL;
	flags = mlp_enter(p);
	err = mlp_consume(&p->core, a->consume.upto);
	if (!err) {
		p->woken = false;
		p->mode_news = false;
	}
	mlp_leave(p, flags);
	return err;
}

static long do_watermark(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->watermark.reserved || !a->watermark.records ||
	    a->watermark.records > p->capacity)
		return -EINVAL;
	flags = mlp_enter(p);
	p->watermark = a->watermark.records;
	p->woken = false;
	mlp_leave(p, flags);
	return 0;
}

static long do_snapshot(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->snapshot.reserved)
		return -EINVAL;
	flags = enter_at(p, a->snapshot.now);
	mlp_snapshot(&p->core, &a->snapshot.snapshot, mlp_now(p));
	mlp_leave(p, flags);
	return 0;
}

static long do_decide(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->decide.reserved)
		return -EINVAL;
	if (!(p->rights & MLP_AGENT_DECIDES))
		return -EPERM;
	flags = enter_at(p, a->decide.now);
	mlp_decide(&p->core, a->decide.stream, a->decide.features, a->decide.unit,
		   a->decide.default_action, mlp_now(p), &a->decide.decision);
	trace_mlproxy_decision(p->core.cfg.name, a->decide.stream, a->decide.unit,
			       a->decide.default_action, &a->decide.decision);
	mlp_leave(p, flags);
	return 0;
}

static long do_rank(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->rank.reserved || a->rank.max > MLP_MAX_RANK)
		return -EINVAL;
	if (!(p->rights & MLP_AGENT_DECIDES))
		return -EPERM;
	memset(a->rank.ids, 0, sizeof(a->rank.ids));
	flags = enter_at(p, a->rank.now);
	a->rank.nr = mlp_decide_rank(&p->core, a->rank.unit, mlp_now(p), a->rank.ids,
				     a->rank.max);
	trace_mlproxy_rank(p->core.cfg.name, a->rank.unit, a->rank.nr,
			   a->rank.nr ? p->core.model_version : 0);
	mlp_leave(p, flags);
	return 0;
}

static long do_report(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->report.reserved || a->report.flags || a->report.arm > MLP_ARM_MODEL)
		return -EINVAL;
	if (!(p->rights & MLP_AGENT_REPORTS))
		return -EPERM;
	flags = enter_at(p, a->report.now);
	mlp_report(&p->core, a->report.arm, a->report.unit, a->report.cost, mlp_now(p));
	mlp_leave(p, flags);
	return 0;
}

static long do_report_twin(struct mlproxy *p, union mlp_args *a)
{
	unsigned long flags;

	if (a->twin.reserved)
		return -EINVAL;
	if (!(p->rights & MLP_AGENT_TWINS))
		return -EPERM;
	flags = enter_at(p, a->twin.now);
	mlp_report_twin(&p->core, a->twin.cost_default, a->twin.cost_model, mlp_now(p));
	mlp_leave(p, flags);
	return 0;
}

static long do_publish(struct mlproxy *p, union mlp_args *a)
{
	const struct mlp_record *rec = &a->publish.record;
	unsigned long flags;

	if (a->publish.reserved || rec->flags || rec->nr_features > MLP_MAX_FEATURES)
		return -EINVAL;
	if (rec->type != MLP_RECORD_LABEL &&
	    !(rec->type == MLP_RECORD_SAMPLE && p->rights & MLP_AGENT_DECIDES))
		return -EPERM;
	flags = mlp_enter(p);
	mlp_publish(&p->core, rec);
	mlp_leave(p, flags);
	return 0;
}

static long do_knobs(struct mlproxy *p, union mlp_args *a)
{
	return mlp_knobs_state(p, &a->knobs);
}

struct mlp_call {
	unsigned int cmd;
	long (*run)(struct mlproxy *p, union mlp_args *a);
};

static const struct mlp_call calls[] = {
	[_IOC_NR(MLP_IOC_START)] = { MLP_IOC_START, do_start },
	[_IOC_NR(MLP_IOC_STOP)] = { MLP_IOC_STOP, do_stop },
	[_IOC_NR(MLP_IOC_HEARTBEAT)] = { MLP_IOC_HEARTBEAT, do_heartbeat },
	[_IOC_NR(MLP_IOC_TICK)] = { MLP_IOC_TICK, do_tick },
	[_IOC_NR(MLP_IOC_SET_MODE)] = { MLP_IOC_SET_MODE, do_set_mode },
	[_IOC_NR(MLP_IOC_OPERATOR)] = { MLP_IOC_OPERATOR, do_operator },
	[_IOC_NR(MLP_IOC_CRITICAL)] = { MLP_IOC_CRITICAL, do_critical },
	[_IOC_NR(MLP_IOC_CONSUME)] = { MLP_IOC_CONSUME, do_consume },
	[_IOC_NR(MLP_IOC_WATERMARK)] = { MLP_IOC_WATERMARK, do_watermark },
	[_IOC_NR(MLP_IOC_SNAPSHOT)] = { MLP_IOC_SNAPSHOT, do_snapshot },
	[_IOC_NR(MLP_IOC_DECIDE)] = { MLP_IOC_DECIDE, do_decide },
	[_IOC_NR(MLP_IOC_RANK)] = { MLP_IOC_RANK, do_rank },
	[_IOC_NR(MLP_IOC_REPORT)] = { MLP_IOC_REPORT, do_report },
	[_IOC_NR(MLP_IOC_REPORT_TWIN)] = { MLP_IOC_REPORT_TWIN, do_report_twin },
	[_IOC_NR(MLP_IOC_PUBLISH)] = { MLP_IOC_PUBLISH, do_publish },
	[_IOC_NR(MLP_IOC_KNOBS)] = { MLP_IOC_KNOBS, do_knobs },
};

static long do_info(void __user *arg)
{
	struct mlp_ioc_info info = {
		.abi_version = MLP_ABI_VERSION,
		.features = MLP_FEATURE_KNOBS | mlp_struct_ops_feature(),
		.version = MLP_VERSION,
		.proxy_bytes = sizeof(struct mlproxy),
	};
	struct mlproxy *p;

	mutex_lock(&mlp_list_lock);
	info.panic = mlp_panic;
	list_for_each_entry(p, &mlp_list, node)
		info.nr_proxies++;
	mutex_unlock(&mlp_list_lock);
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

/* Out goes what came in, with the answer, also when the answer is an error. */
static long call(struct mlproxy *p, const struct mlp_call *c, void __user *arg)
{
	unsigned int size = _IOC_SIZE(c->cmd);
	union mlp_args a;
	long err = -ENODEV;

	memset(&a, 0, sizeof(a));
	if (_IOC_DIR(c->cmd) & _IOC_WRITE && copy_from_user(&a, arg, size))
		return -EFAULT;
	mutex_lock(&p->mutex);
	if (!p->gone)
		err = c->run(p, &a);
	mutex_unlock(&p->mutex);
	if (_IOC_DIR(c->cmd) & _IOC_READ && copy_to_user(arg, &a, size))
		return -EFAULT;
	return err;
}

long mlp_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct mlproxy *p = mlp_file_proxy(file);
	unsigned int nr = _IOC_NR(cmd);

	switch (cmd) {
	case MLP_IOC_INFO:
		return do_info(user);
	case MLP_IOC_CREATE:
		return mlp_ioc_create(file, user);
	case MLP_IOC_ATTACH:
		return mlp_ioc_attach(file, user);
	case MLP_IOC_REINIT:
		return p ? mlp_ioc_reinit(p, user) : -ENOTCONN;
	case MLP_IOC_SUBMIT:
		return p ? do_submit(p, user) : -ENOTCONN;
	}
	if (nr >= ARRAY_SIZE(calls))
		return -ENOTTY;
	nr = array_index_nospec(nr, ARRAY_SIZE(calls));
	if (!calls[nr].run || calls[nr].cmd != cmd)
		return -ENOTTY;
	return p ? call(p, &calls[nr], user) : -ENOTCONN;
}
