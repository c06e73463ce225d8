import { PicketError } from '../errors/errors.ts';
import { parseSpiffeId, type SpiffeId } from '../spiffe/spiffe-id.ts';

/** On what terms the policy lets something leave the mesh. */
export interface EgressTerms {
  /** The gateway that alone may take it out. */
  readonly via?: SpiffeId;
  readonly certificate?: CertificateTerms;
  /** Its TLS is ended by whoever dials, and each request within is decided by itself. */
  readonly isInspected?: true;
}

/** What the outside server must prove by its certificate: all that is named. */
export interface CertificateTerms {
  /** SHA-256 of its public key (SubjectPublicKeyInfo), one of these, lower-case hexadecimal. */
  readonly spkiSha256?: readonly string[];
  /** An authority by the name that the configuration of whoever dials gives it, which must have issued it for the name that was asked for. */
  readonly authority?: string;
}

/** Public keys that one result may name: the one in use, the next, and those of a farm. */
const MAX_PINS = 16;
const MAX_NAME = 64;

const AUTHORITY_NAME = /^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$/;
const HEX = /^[0-9a-fA-F]{64}$/;
/** As `curl --pinnedpubkey` and RFC 7469 write it. */
const BASE64 = /^[A-Za-z0-9+/]{43}=$/;

type Result = Readonly<Record<string, unknown>>;

/** Whether a name may be that of an authority. */
export function isAuthorityName(name: string): boolean {
  return name.length <= MAX_NAME && AUTHORITY_NAME.test(name);
}

/** What is wrong with the terms of a policy's result, or undefined. */
export function findTermsFault(result: Result): string | undefined {
  if (!isAbsent(result['inspect']) && typeof result['inspect'] !== 'boolean')
    return '"inspect" is no boolean';
  if (!isAbsent(result['via']) && readVia(result['via']) === undefined) return '"via" is no SPIFFE ID';
  return findCertificateFault(result['server_certificate']);
}

/** The terms of a result without fault; undefined where it names none. */
export function readTerms(result: Result): EgressTerms | undefined {
  const via = readVia(result['via']);
  const certificate = isAbsent(result['server_certificate'])
    ? undefined
    : readCertificate(result['server_certificate'] as Result);
  const isInspected = result['inspect'] === true;
  if (via === undefined && certificate === undefined && !isInspected) return undefined;
  return {
    ...(via === undefined ? {} : { via }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(isInspected ? { isInspected } : {}),
  };
}

/** Whether what was let out on some terms may stay open on others: only on the same. */
export function areSameTerms(one: EgressTerms | undefined, other: EgressTerms | undefined): boolean {
  return JSON.stringify(one ?? {}) === JSON.stringify(other ?? {});
}

function findCertificateFault(value: unknown): string | undefined {
  if (isAbsent(value)) return undefined;
  const fault = `"server_certificate" names neither "spki_sha256" (at most ${MAX_PINS} hashes, hexadecimal or base64) nor "authority"`;
  if (typeof value !== 'object' || Array.isArray(value)) return fault;
  const { spki_sha256: pins, authority, ...others } = value as Result;
  const unknown = Object.keys(others)[0];
  // What would be overlooked here would be a check that its author believes in.
  if (unknown !== undefined)
    return `"server_certificate" has "${unknown.slice(0, MAX_NAME)}", which is not known`;
  if (isAbsent(pins) && isAbsent(authority)) return fault;
  if (!isAbsent(pins) && !arePins(pins)) return fault;
  const isNamed = isAbsent(authority) || (typeof authority === 'string' && isAuthorityName(authority));
  return isNamed ? undefined : fault;
}

function readCertificate({ spki_sha256: pins, authority }: Result): CertificateTerms {
  return {
    ...(Array.isArray(pins) ? { spkiSha256: pins.map((pin) => hexOf(String(pin))).toSorted() } : {}),
    ...(typeof authority === 'string' ? { authority } : {}),
  };
}

function arePins(pins: unknown): boolean {
  const isPin = (pin: unknown): boolean => typeof pin === 'string' && (HEX.test(pin) || BASE64.test(pin));
  return Array.isArray(pins) && pins.length > 0 && pins.length <= MAX_PINS && pins.every(isPin);
}

function hexOf(pin: string): string {
  return HEX.test(pin) ? pin.toLowerCase() : Buffer.from(pin, 'base64').toString('hex');
}

function readVia(value: unknown): SpiffeId | undefined {
  if (typeof value !== 'string') return undefined;
  try {
    return parseSpiffeId(value);
  } catch (error) {
    if (error instanceof PicketError) return undefined;
    throw error;
  }
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}
