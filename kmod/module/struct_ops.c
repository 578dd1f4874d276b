// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model as a BPF struct_ops: struct mlproxy_ops with a decide() that
 * evaluates in place of the submitted program. The proxy still asks for it only
 * in the model's arm, only while a submitted recommendation is valid, and takes
 * only actions in range. Attaching and detaching void what was submitted, so
 * both give the default back until the agent submits again.
 */
#include <linux/bpf.h>
#include <linux/bpf_verifier.h>
#include <linux/btf.h>
#include <linux/module.h>
#include "../compat/mlproxy_compat.h"
#include "mlproxy_module.h"

#ifdef MLP_HAVE_STRUCT_OPS

/**
 * struct mlproxy_context - what decide() sees
 * @features: quantised
 * @nr_features: how many of them are set
 * @stream: feature stream
 * @default_action: what the default logic would do
 * @confidence: 0 at first; the program may set it, to 0..1000
 */
struct mlproxy_context {
	s32 features[MLP_MAX_FEATURES];
	u32 nr_features;
	u32 stream;
	s32 default_action;
	u32 confidence;
};

/**
 * struct mlproxy_ops - a model
 * @decide: returns the action; one out of the proxy's range: the default acts.
 *	    64 bits, so that there always is one out of range
 * @proxy: name of the proxy, of kind program
 */
struct mlproxy_ops {
	s64 (*decide)(struct mlproxy_context *context);
	char proxy[MLP_NAME_LEN];
};

/* Called with the proxy's lock held: the program must not sleep. */
static int walk(void *proxy, u32 stream, const s32 *features, s32 default_action, s32 *action,
		u32 *confidence)
{
	struct mlproxy *p = proxy;
	struct mlproxy_context context = {
		.nr_features = p->core.cfg.nr_features,
		.stream = stream,
		.default_action = default_action,
	};
	s64 said;

	memcpy(context.features, features, context.nr_features * sizeof(*features));
	said = p->ops->decide(&context);
	if (said != (s32)said)
		return -ERANGE;
	*action = (s32)said;
	*confidence = context.confidence;
	return 0;
}

static int mlp_ops_reg(MLP_STRUCT_OPS_ARGS)
{
	struct mlproxy_ops *ops = kdata;
	unsigned long flags;
	struct mlproxy *p;
	int err = 0;

	/* Without a link it would outlive whoever attached it. */
	if (!MLP_STRUCT_OPS_LINKED)
		return -EOPNOTSUPP;
	mutex_lock(&mlp_list_lock);
	p = mlp_find(ops->proxy);
	if (!p || p->leaving)
		err = -ENOENT;
	else if (p->ops)
		err = -EBUSY;
	if (!err) {
		flags = mlp_enter(p);
		if (p->core.kind == MLP_KIND_PROGRAM) {
			p->ops = ops;
			mlp_set_walker(&p->core, walk, p);
		} else {
			err = -EINVAL;
		}
		mlp_leave(p, flags);
	}
	mutex_unlock(&mlp_list_lock);
	return err;
}

static void mlp_ops_unreg(MLP_STRUCT_OPS_ARGS)
{
	unsigned long flags;
	struct mlproxy *p;

	mutex_lock(&mlp_list_lock);
	list_for_each_entry(p, &mlp_list, node) {
		if (p->ops != kdata)
			continue;
		/* Decisions run under the lock: none uses the program after this. */
		flags = mlp_enter(p);
		mlp_set_walker(&p->core, NULL, NULL);
		p->ops = NULL;
		mlp_leave(p, flags);
	}
	mutex_unlock(&mlp_list_lock);
}

static int mlp_ops_init(struct btf *btf)
{
	return 0;
}

static int mlp_ops_init_member(const struct btf_type *t, const struct btf_member *member,
			       void *kdata, const void *udata)
{
	const struct mlproxy_ops *from = udata;
	struct mlproxy_ops *to = kdata;

	if (__btf_member_bit_offset(t, member) / 8 != offsetof(struct mlproxy_ops, proxy))
		return 0;
	if (!from->proxy[0] || strnlen(from->proxy, MLP_NAME_LEN) == MLP_NAME_LEN)
		return -EINVAL;
	strscpy(to->proxy, from->proxy, MLP_NAME_LEN);
	return 1;
}

/* Taken as given by everything above: somebody decides. */
static int mlp_ops_validate(void *kdata)
{
	const struct mlproxy_ops *ops = kdata;

	return ops->decide ? 0 : -EINVAL;
}

/*
 * The BTF type that decide()'s argument points to. Noted whenever a program is
 * about to be verified, always the same: finding types by name is not exported.
 */
static const struct btf_type *mlp_context_type;

static int mlp_ops_check_member(const struct btf_type *t, const struct btf_member *member,
				const struct bpf_prog *prog)
{
	const struct btf *btf = prog->aux->attach_btf;
	const struct btf_type *argument;

	if (__btf_member_bit_offset(t, member) / 8 != offsetof(struct mlproxy_ops, decide))
		return -EINVAL;
	/* It runs under a spinlock with interrupts off. */
	if (MLP_PROG_SLEEPABLE(prog))
		return -EINVAL;
	t = btf_type_by_id(btf, member->type);		/* a pointer ... */
	t = btf_type_by_id(btf, t->type);		/* ... to a function, */
	argument = btf_type_by_id(btf, btf_params(t)->type);
	WRITE_ONCE(mlp_context_type, btf_type_by_id(btf, argument->type));
	return 0;
}

/* What a program may write to: the confidence, nothing else. */
static int mlp_ops_struct_access(struct bpf_verifier_log *log, const struct bpf_reg_state *reg,
				 int off, int size)
{
	if (btf_type_by_id(reg->btf, reg->btf_id) != READ_ONCE(mlp_context_type) ||
	    off != offsetof(struct mlproxy_context, confidence) || size != sizeof(u32)) {
		bpf_log(log, "only mlproxy_context.confidence may be written\n");
		return -EACCES;
	}
	return 0;
}

static bool mlp_ops_access(int off, int size, enum bpf_access_type type,
			   const struct bpf_prog *prog, struct bpf_insn_access_aux *info)
{
	return bpf_tracing_btf_ctx_access(off, size, type, prog, info);
}

static const struct bpf_verifier_ops mlp_verifier_ops = {
	.get_func_proto = bpf_base_func_proto,
	.is_valid_access = mlp_ops_access,
	.btf_struct_access = mlp_ops_struct_access,
};

static s64 decide_stub(struct mlproxy_context *context)
{
	return context->default_action;
}

static struct mlproxy_ops mlp_cfi_stubs = { .decide = decide_stub };

static struct bpf_struct_ops mlp_struct_ops = {
	.verifier_ops = &mlp_verifier_ops,
	.init = mlp_ops_init,
	.check_member = mlp_ops_check_member,
	.init_member = mlp_ops_init_member,
	.validate = mlp_ops_validate,
	.reg = mlp_ops_reg,
	.unreg = mlp_ops_unreg,
	.name = "mlproxy_ops",
	.owner = THIS_MODULE,
	.cfi_stubs = &mlp_cfi_stubs,
};

static bool mlp_registered;

/* Without it (no BTF at hand, say) the module does all the rest. */
int mlp_struct_ops_init(void)
{
	int err = register_bpf_struct_ops(&mlp_struct_ops, mlproxy_ops);

	mlp_registered = !err;
	if (err)
		pr_info("mlproxy: no BPF struct_ops: %d\n", err);
	return 0;
}

u32 mlp_struct_ops_feature(void)
{
	return mlp_registered ? MLP_FEATURE_STRUCT_OPS : 0;
}

#else

int mlp_struct_ops_init(void)
{
	return 0;
}

u32 mlp_struct_ops_feature(void)
{
	return 0;
}

#endif /* MLP_HAVE_STRUCT_OPS */
