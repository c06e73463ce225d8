import { DerReader } from './der-reader.ts';
import { constructedContextTag, contextTag } from './der-tag.ts';

/** DNS names that an authority may certify (RFC 5280 4.2.1.10). Constraints on names of other kinds are left out. */
export interface DnsNameConstraints {
  /** Undefined: every name that is not excluded. */
  readonly permitted: readonly string[] | undefined;
  readonly excluded: readonly string[];
}

const PERMITTED = constructedContextTag(0);
const EXCLUDED = constructedContextTag(1);
const DNS_NAME = contextTag(2);
const DIRECTORY_NAME = constructedContextTag(4);

/** Reads the value of the name constraints extension. Throws `invalid_argument`, reasons of `DerReader`. */
export function parseDnsNameConstraints(value: Uint8Array): DnsNameConstraints {
  const { permitted, excluded } = parseSubtrees(value);
  const dnsNames = permitted.flatMap(dnsNameOf);
  // Names of a kind that no permitted subtree is of are not restricted.
  return { permitted: dnsNames.length === 0 ? undefined : dnsNames, excluded: excluded.flatMap(dnsNameOf) };
}

/** Whether the value of the name constraints extension restricts subjects (directoryName). Throws as `parseDnsNameConstraints`. */
export function restrictsSubjects(value: Uint8Array): boolean {
  const { permitted, excluded } = parseSubtrees(value);
  return [...permitted, ...excluded].some(({ tag }) => tag === DIRECTORY_NAME);
}

/** Whether a name in lower case may be certified. */
export function permitsDnsName({ permitted, excluded }: DnsNameConstraints, name: string): boolean {
  const isWithin = (subtree: string): boolean => isInSubtree(name, subtree);
  return (permitted?.some(isWithin) ?? true) && !excluded.some(isWithin);
}

/** The base of a subtree (GeneralName). */
interface Base {
  readonly tag: number;
  readonly content: Uint8Array;
}

function parseSubtrees(value: Uint8Array): { readonly permitted: Base[]; readonly excluded: Base[] } {
  const outer = new DerReader(value);
  const inside = outer.sequence();
  outer.requireEnd();
  const permitted = inside.nextTag() === PERMITTED ? readSubtrees(inside.constructed(PERMITTED)) : [];
  const excluded = inside.nextTag() === EXCLUDED ? readSubtrees(inside.constructed(EXCLUDED)) : [];
  inside.requireEnd();
  return { permitted, excluded };
}

/** GeneralSubtree: its base, and a minimum and maximum that stand for nothing in a DNS name. */
function readSubtrees(subtrees: DerReader): Base[] {
  const bases: Base[] = [];
  while (subtrees.nextTag() !== undefined) bases.push(subtrees.sequence().any());
  return bases;
}

function dnsNameOf({ tag, content }: Base): string[] {
  return tag === DNS_NAME ? [Buffer.from(content).toString('latin1').toLowerCase()] : [];
}

/** The name itself, and all below it; a leading dot, which some write, leaves out the name itself. Nothing stands for everything. */
function isInSubtree(name: string, subtree: string): boolean {
  if (subtree === '') return true;
  return subtree.startsWith('.') ? name.endsWith(subtree) : name === subtree || name.endsWith(`.${subtree}`);
}
