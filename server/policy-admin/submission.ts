import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { readTarGz } from '../../shared/policy/policy-bundle.ts';
import { parseSafeName } from '../../shared/policy/tar.ts';
import type { PolicyFiles } from './policy-compiler.ts';

/** The longest body of POST /policies in bytes. */
export const MAX_SUBMISSION_BYTES = 8 * 1024 * 1024;

const MAX_FILES = 512;
const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_TOTAL_BYTES = 16 * 1024 * 1024;
const LIMITS = { maxFiles: MAX_FILES, maxFileBytes: MAX_FILE_BYTES, maxBytes: MAX_TOTAL_BYTES + (1 << 20) };

/** What an author hands in. */
export interface PolicySubmission {
  /** What OPA reads: Rego, data.json, data.yaml and, for Rego v0, a .manifest that says so. */
  readonly files: PolicyFiles;
  readonly message: string;
  /** Files that were in the archive but are none of a policy's, such as a README. */
  readonly ignoredFiles: readonly string[];
}

const regoVersion = z.union([z.literal(0), z.literal(1)]);

/** POST /policies as application/json. */
export const jsonSubmission = z.strictObject({
  files: z.record(z.string().max(255), z.string().max(MAX_FILE_BYTES)),
  message: z.string().max(1024).default(''),
  /** The language of the files; 1 unless said otherwise. */
  rego_version: regoVersion.default(1),
});

/** Of OPA's .manifest only the version of the language is taken over. */
const manifest = z.object({ rego_version: regoVersion.default(1) });

/**
 * Reads the body of a publication: gzip of a tar archive, or `jsonSubmission`, told apart by the bytes. `message` stands where the body has none.
 * Throws `invalid_argument`, reason `submission_invalid`, `archive_invalid` or `archive_too_big`, or `policy_too_big`.
 */
export function parseSubmission(body: Uint8Array, message = ''): PolicySubmission {
  if (body.length > MAX_SUBMISSION_BYTES)
    throw invalid('policy_too_big', `it is longer than ${MAX_SUBMISSION_BYTES} bytes`);
  return body[0] === 0x1f ? parseArchive(body, message) : parseJson(body, message);
}

function parseArchive(body: Uint8Array, message: string): PolicySubmission {
  const archive = readTarGz(body, LIMITS);
  const manifestBytes = archive.get('.manifest');
  const version =
    manifestBytes === undefined ? 1 : parseManifest(decodeText('.manifest', manifestBytes)).rego_version;
  const files = new Map<string, string>();
  const ignored: string[] = [];
  for (const [name, bytes] of archive) {
    if (isPolicyFile(name)) files.set(name, decodeText(name, bytes));
    else if (name !== '.manifest') ignored.push(name);
  }
  return buildSubmission(files, { message, version, ignored });
}

function parseJson(body: Uint8Array, message: string): PolicySubmission {
  const parsed = jsonSubmission.safeParse(readJson(decodeText('the body', body)));
  if (!parsed.success) throw invalid('submission_invalid', z.prettifyError(parsed.error));
  const files = new Map<string, string>();
  for (const [name, text] of Object.entries(parsed.data.files)) {
    const safe = parseSafeName(name);
    if (files.has(safe)) throw invalid('submission_invalid', `"${safe}" is in it twice`);
    if (safe !== '.manifest' && !isPolicyFile(safe))
      throw invalid('submission_invalid', `"${safe}" is no file of a policy`);
    files.set(safe, text);
  }
  const manifestText = files.get('.manifest');
  files.delete('.manifest');
  const version =
    manifestText === undefined ? parsed.data.rego_version : parseManifest(manifestText).rego_version;
  return buildSubmission(files, { message: parsed.data.message || message, version, ignored: [] });
}

function buildSubmission(
  files: ReadonlyMap<string, string>,
  options: { readonly message: string; readonly version: 0 | 1; readonly ignored: readonly string[] },
): PolicySubmission {
  const names = [...files.keys()].toSorted();
  if (!names.some((name) => name.endsWith('.rego')))
    throw invalid('submission_invalid', 'there is no .rego file in it');
  if (names.length > MAX_FILES) throw invalid('policy_too_big', `it holds more than ${MAX_FILES} files`);
  const texts = names.map((name) => [name, files.get(name) ?? ''] as const);
  const length = texts.reduce((sum, [, text]) => sum + Buffer.byteLength(text), 0);
  if (length > MAX_TOTAL_BYTES)
    throw invalid('policy_too_big', `its files are longer than ${MAX_TOTAL_BYTES} bytes`);
  const marks: readonly (readonly [string, string])[] =
    options.version === 0 ? [['.manifest', '{"rego_version":0}\n']] : [];
  return {
    files: Object.fromEntries([...texts, ...marks]),
    message: options.message.slice(0, 1024),
    ignoredFiles: options.ignored,
  };
}

/** The names that OPA reads in a bundle. Hidden folders (.git, .github) are none of it. */
function isPolicyFile(name: string): boolean {
  const segments = name.split('/');
  if (segments.some((segment) => segment.startsWith('.'))) return false;
  const file = segments.at(-1) ?? '';
  return file.endsWith('.rego') || /^data\.(?:json|ya?ml)$/.test(file);
}

function parseManifest(text: string): z.output<typeof manifest> {
  const parsed = manifest.safeParse(readJson(text));
  if (!parsed.success) throw invalid('submission_invalid', `.manifest: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw invalid('submission_invalid', 'it is neither gzip nor JSON', cause);
  }
}

function decodeText(name: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw invalid('submission_invalid', `${name} is not UTF-8`, cause);
  }
}

function invalid(reason: 'submission_invalid' | 'policy_too_big', why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', reason, `Cannot read the policy: ${why}`, { cause });
}
