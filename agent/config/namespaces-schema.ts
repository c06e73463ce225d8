import { normalize } from 'node:path';
import { z } from 'zod';
import { absolutePath } from '../../shared/config/config-values.ts';
import { ipAddress } from '../../shared/protocol/wire-values.ts';
import { parseCidr, type Cidr } from '../capture/cidr.ts';
import { canonicalAddress, isHostAddress } from '../directory/host-address.ts';
import type { NamespaceSettings } from '../namespaces/namespace-source.ts';

/** What agent.yaml may say of other network namespaces. */

const MAX_ENTRIES = 64;
/** Captured at once, of all patterns together. */
const MAX_FOUND = 256;
/** As many pods as a kubelet starts on a host unless it is told otherwise. */
const DEFAULT_MOST = 110;
/** Whatever is in such a network and no namespace's is closed: a wider one is a mistake. */
const WIDEST_BITS = { ip: 8, ip6: 16 } as const;
const NETNS_FOLDER = '/run/netns';

const hostAddress = ipAddress
  .transform((text) => canonicalAddress(text) ?? text)
  .refine(isHostAddress, {
    message: 'must be an address that only one host can have',
  });

const networkOfPods = z
  .string()
  .max(64)
  .transform((text, context): Cidr => {
    const network = findNetwork(text);
    if (network !== undefined) return network;
    const message = 'must be a network of addresses that only one host can have, such as 10.8.0.0/16';
    context.issues.push({ code: 'custom', input: text, message });
    return z.NEVER;
  });

const namespace = z
  .strictObject({
    name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'must be a name such as shop or pod-1'),
    path: absolutePath.optional(),
    addresses: z.array(hostAddress).min(1).max(8).optional(),
    pattern: z
      .string()
      .regex(/^[A-Za-z0-9._*?-]{1,64}$/, 'must be a file name with * and ?, such as cni-*')
      .optional(),
    folder: absolutePath.optional(),
    addresses_in: z.array(networkOfPods).min(1).max(16).optional(),
    most: z.number().int().min(1).optional(),
  })
  .refine(isEither, 'must have either addresses, and path, or pattern and addresses_in, folder and most');

type NamespaceEntry = z.output<typeof namespace>;

/** `capture.namespaces`. */
export const namespacesSchema = z
  .array(namespace)
  .max(MAX_ENTRIES)
  .refine(areApart, 'must have each name, each path and each address once')
  .refine((entries) => sumOf(entries) <= MAX_FOUND, `must be at most ${MAX_FOUND} by most, together`)
  .default([]);

/** What was read as the agent knows it. */
export function buildNamespaces(entries: readonly NamespaceEntry[]): NamespaceSettings {
  return {
    named: entries.flatMap(({ name, path, addresses }) =>
      addresses === undefined
        ? []
        : [{ name, label: name, path: pathOf({ name, path }), addresses, routedIn: [] }],
    ),
    patterns: entries.flatMap(({ name, pattern, folder, addresses_in, most }) =>
      pattern === undefined
        ? []
        : [
            {
              label: name,
              folder: folder ?? NETNS_FOLDER,
              pattern,
              routedIn: addresses_in ?? [],
              most: most ?? DEFAULT_MOST,
            },
          ],
    ),
  };
}

function isEither(entry: {
  readonly path?: unknown;
  readonly addresses?: unknown;
  readonly pattern?: unknown;
  readonly folder?: unknown;
  readonly addresses_in?: unknown;
  readonly most?: unknown;
}): boolean {
  const { path, addresses, pattern, folder, addresses_in, most } = entry;
  const has = (...values: readonly unknown[]): boolean => values.some((value) => value !== undefined);
  if (has(pattern)) return has(addresses_in) && !has(path, addresses);
  return has(addresses) && !has(folder, addresses_in, most);
}

function areApart(entries: readonly NamespaceEntry[]): boolean {
  const names = entries.map(({ name }) => name);
  const paths = entries.flatMap((each) => (each.pattern === undefined ? [normalize(pathOf(each))] : []));
  const addresses = entries.flatMap((each) => each.addresses ?? []);
  return [names, paths, addresses].every((each) => new Set(each).size === each.length);
}

function pathOf({ name, path }: { readonly name: string; readonly path?: string | undefined }): string {
  return path ?? `${NETNS_FOLDER}/${name}`;
}

function sumOf(entries: readonly NamespaceEntry[]): number {
  return entries.reduce(
    (sum, { pattern, most }) => sum + (pattern === undefined ? 0 : (most ?? DEFAULT_MOST)),
    0,
  );
}

function findNetwork(text: string): Cidr | undefined {
  try {
    const network = parseCidr(text);
    const isNarrow = network.prefixBits >= WIDEST_BITS[network.family];
    return isNarrow && isHostAddress(network.address) ? network : undefined;
  } catch {
    return undefined;
  }
}
