import { NFT_TABLE } from './nft-rules.ts';
import { TRANSPARENT_NAT_PRIORITY } from './transparent-rules.ts';

/** What others do with the packets of this host, beside our rules. A packet passes only if everybody lets it. */
export interface ForeignChains {
  /** Programs whose chains are there. */
  readonly programs: readonly string[];
  /** Chains at which what is not allowed is dropped: `TABLE CHAIN (HOOK)`. */
  readonly dropping: readonly string[];
  /** Chains that may translate the source of a connection from a caller's address before ours keeps it: `TABLE CHAIN`. */
  readonly translating: readonly string[];
}

/** Programs by the names of their tables and chains. */
const PROGRAMS: readonly { readonly name: string; readonly sign: RegExp }[] = [
  { name: 'Docker', sign: /^DOCKER(-|$)/ },
  { name: 'kube-proxy', sign: /^(KUBE-|kube-proxy$)/ },
  { name: 'firewalld', sign: /^firewalld(-|$)/ },
  { name: 'ufw', sign: /^ufw6?-/ },
  { name: 'libvirt', sign: /^(LIBVIRT_|libvirt)/ },
];

/** Reads what `nft list chains` printed. Lines that say nothing here are passed over. */
export function findForeignChains(listing: string): ForeignChains {
  const programs = new Set<string>();
  const dropping: string[] = [];
  const translating: string[] = [];
  let table = '';
  let chain = '';
  for (const line of listing.split('\n')) {
    table = /^table (\S+ \S+) \{/.exec(line)?.[1] ?? table;
    chain = /^\tchain (\S+) \{/.exec(line)?.[1] ?? chain;
    if (table === NFT_TABLE) continue;
    for (const { name, sign } of PROGRAMS)
      if (sign.test(chain) || sign.test(table.split(' ')[1] ?? '')) programs.add(name);
    const hook = /^\t\ttype filter hook (input|output) .*policy drop;/.exec(line)?.[1];
    if (hook !== undefined) dropping.push(`${table} ${chain} (${hook})`);
    const priority = /^\t\ttype nat hook postrouting priority (-?\d+);/.exec(line)?.[1];
    if (priority !== undefined && Number(priority) <= TRANSPARENT_NAT_PRIORITY)
      translating.push(`${table} ${chain}`);
  }
  return { programs: [...programs], dropping, translating };
}
