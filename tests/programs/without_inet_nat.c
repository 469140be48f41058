/*
 * A kernel before 5.2, for a program that runs with this library in LD_PRELOAD: nf_tables has tables of family inet,
 * but no NAT in them. The type of such a chain is changed on its way to the kernel into one that there is not, and the
 * kernel answers as the older one would (ENOENT).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The attribute NFTA_CHAIN_TYPE with "nat" as it is sent: length 8, then the text with its NUL. */
static void spoil(char *message, size_t length)
{
    struct nlattr type = {.nla_len = sizeof(type) + 4, .nla_type = NFTA_CHAIN_TYPE};
    char wanted[8];
    memcpy(wanted, &type, sizeof(type));
    memcpy(wanted + sizeof(type), "nat", 4);
    char *found = memmem(message, length, wanted, sizeof(wanted));
    if (found)
        memcpy(found + sizeof(type), "tan", 3);
}

ssize_t send(int socket, const void *bytes, size_t length, int flags)
{
    ssize_t (*next)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
    char *copy = malloc(length);
    if (!copy)
        abort();
    memcpy(copy, bytes, length);
    for (size_t at = 0; at + sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg) <= length;) {
        struct nlmsghdr *header = (struct nlmsghdr *)(copy + at);
        struct nfgenmsg *about = NLMSG_DATA(header);
        if (header->nlmsg_len < sizeof(*header) || at + header->nlmsg_len > length)
            break;
        if (header->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN) &&
            about->nfgen_family == NFPROTO_INET)
            spoil(copy + at, header->nlmsg_len);
        at += NLMSG_ALIGN(header->nlmsg_len);
    }
    ssize_t sent = next(socket, copy, length, flags);
    free(copy);
    return sent;
}
