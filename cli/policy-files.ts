import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { PicketError } from '../shared/errors/errors.ts';

/** The most that a folder of policies may hold; the server has its own limits. */
const MAX_FILES = 1000;
const MAX_BYTES = 8 * 1024 * 1024;
const POLICY_FILE = /\.(rego|json)$|^\.manifest$/;

interface FoundFile {
  readonly file: string;
  /** As the server is told it: the path in the folder. */
  readonly name: string;
  readonly bytes: number;
}

/**
 * The texts of a policy by their names: of a file by its own, of a folder every .rego and .json below it by its path in it. Links are refused: they might lead out of
 * the folder. Throws `not_found`, reason `file_missing`; `invalid_argument`: `link_refused`, `too_big`, `too_many_files`, `no_policy`.
 */
export function readPolicyFiles(path: string): Readonly<Record<string, string>> {
  const files: Record<string, string> = {};
  let bytes = 0;
  for (const found of findPolicyFiles(path, path)) {
    bytes += found.bytes;
    if (bytes > MAX_BYTES) throw refusal('too_big', `${path} holds more than ${MAX_BYTES} bytes of policy`);
    files[found.name] = readFileSync(found.file, 'utf8');
    if (Object.keys(files).length > MAX_FILES)
      throw refusal('too_many_files', `${path} holds more than ${MAX_FILES} files`);
  }
  if (Object.keys(files).length === 0) throw refusal('no_policy', `${path} holds no .rego file`);
  return files;
}

function* findPolicyFiles(file: string, root: string): Generator<FoundFile> {
  const stat = lstatSync(file, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new PicketError('not_found', 'file_missing', `There is no file or folder ${file}`);
  if (stat.isSymbolicLink())
    throw refusal('link_refused', `${file} is a symbolic link; name the file itself`);
  if (stat.isDirectory()) {
    for (const child of readdirSync(file).toSorted()) yield* findPolicyFiles(join(file, child), root);
    return;
  }
  const name = file === root ? basename(file) : relative(root, file);
  if (POLICY_FILE.test(name)) yield { file, name, bytes: stat.size };
}

function refusal(reason: string, message: string): PicketError {
  return new PicketError('invalid_argument', reason, message);
}
