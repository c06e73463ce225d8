import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { PicketError } from '../errors/errors.ts';
import { buildTar, readTar, type TarFiles, type TarLimits } from './tar.ts';

/** The compiled policy and its data, as agents get them. */
export interface PolicyBundle {
  readonly wasm: Uint8Array;
  /** JSON text of an object. */
  readonly data: Uint8Array;
  /** The parts of the input that the policy's answers depend on; undefined where that is not known. */
  readonly reads?: readonly InputPath[];
}

/** Names of fields from the root of the input on, such as `['request', 'method']`: all that stands below it is meant. */
export type InputPath = readonly string[];

/** A policy that reads more parts of its input than this is not told what it reads. */
export const MAX_READS = 64;

const reads = z.array(z.array(z.string().max(256)).max(16)).max(MAX_READS);

/** The longest artefact in bytes, compressed. A policy of 10,000 rules takes 290 KB. */
export const MAX_ARTIFACT_BYTES = 16 * 1024 * 1024;

const MAX_BUNDLE_BYTES = 64 * 1024 * 1024;
const BUNDLE_LIMITS: TarLimits = { maxFiles: 4, maxFileBytes: 32 * 1024 * 1024 };

/** Reads an artefact: gzip, tar, /policy.wasm, /data.json and, if it is there, /reads.json. Throws `invalid_argument`, reason `policy_artifact_invalid`. */
export function readPolicyBundle(artifact: Uint8Array): PolicyBundle {
  if (artifact.length > MAX_ARTIFACT_BYTES) throw invalid(`it is longer than ${MAX_ARTIFACT_BYTES} bytes`);
  const files = readArchive(artifact);
  const wasm = files.get('policy.wasm');
  const data = files.get('data.json');
  if (wasm === undefined) throw invalid('/policy.wasm is missing');
  if (data === undefined) throw invalid('/data.json is missing');
  const readsText = files.get('reads.json');
  return { wasm, data, ...(readsText === undefined ? {} : { reads: parseReads(readsText) }) };
}

/** Builds an artefact. Equal bundles give equal bytes. */
export function buildPolicyBundle(bundle: PolicyBundle): Uint8Array {
  return gzipSync(
    buildTar(
      new Map([
        ['policy.wasm', bundle.wasm],
        ['data.json', bundle.data],
        ...(bundle.reads === undefined
          ? []
          : [['reads.json', Buffer.from(JSON.stringify(bundle.reads))] as const]),
      ]),
    ),
    { level: 9 },
  );
}

/**
 * Decompresses a tar.gz and reads it, both within bounds. Throws `invalid_argument`, reason `archive_invalid` or `archive_too_big`.
 */
export function readTarGz(bytes: Uint8Array, limits: TarLimits & { readonly maxBytes: number }): TarFiles {
  return readTar(gunzip(bytes, limits.maxBytes), limits);
}

function gunzip(bytes: Uint8Array, maxOutputLength: number): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength });
  } catch (cause) {
    const isTooBig = cause instanceof RangeError;
    throw new PicketError(
      'invalid_argument',
      isTooBig ? 'archive_too_big' : 'archive_invalid',
      isTooBig ? `The archive is longer than ${maxOutputLength} bytes` : 'The archive is not valid gzip',
      { cause },
    );
  }
}

function parseReads(text: Uint8Array): readonly InputPath[] {
  try {
    return reads.parse(JSON.parse(Buffer.from(text).toString('utf8')));
  } catch (cause) {
    throw invalid('/reads.json is not valid', cause);
  }
}

function readArchive(artifact: Uint8Array): TarFiles {
  try {
    return readTarGz(artifact, { ...BUNDLE_LIMITS, maxBytes: MAX_BUNDLE_BYTES });
  } catch (cause) {
    throw invalid(cause instanceof PicketError ? cause.message : 'it is not an archive', cause);
  }
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError(
    'invalid_argument',
    'policy_artifact_invalid',
    `Cannot load the policy artefact: ${why}`,
    { cause },
  );
}
