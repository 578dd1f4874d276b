// SPDX-License-Identifier: GPL-2.0-only
/* The module: /dev/mlproxy comes and goes. */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include "mlproxy_module.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static struct miscdevice mlp_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mlproxy",
	.fops = &mlp_fops,
	.groups = mlp_misc_groups,
	.mode = 0660,
};

static int __init mlp_init_module(void)
{
	int err;

	err = mlp_proxies_init();
	if (err)
		return err;
	err = misc_register(&mlp_misc);
	if (err)
		goto proxies;
	err = mlp_struct_ops_init();
	if (err)
		goto misc;
	return 0;

misc:
	misc_deregister(&mlp_misc);
proxies:
	mlp_proxies_exit();
	return err;
}

/* Nobody has a proxy any more: open files and in-kernel users pin the module. */
static void __exit mlp_exit_module(void)
{
	misc_deregister(&mlp_misc);
	mlp_proxies_exit();
}

module_init(mlp_init_module);
module_exit(mlp_exit_module);
MODULE_DESCRIPTION("Proxies for machine-learning models that steer kernel decisions");
MODULE_AUTHOR("The mlproxy authors");
MODULE_VERSION(MLP_VERSION);
MODULE_LICENSE("GPL");
