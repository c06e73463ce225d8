import { PicketError } from '../errors/errors.ts';

/**
 * Parses JSON of at most `maxCharacters` and refuses an object that names a member twice: parsers disagree on which of the
 * two counts (RFC 8259 4). Throws `invalid_argument`, reason `json_invalid`.
 */
export function parseStrictJson(text: string, limits: { readonly maxCharacters: number }): unknown {
  if (text.length > limits.maxCharacters)
    throw invalid(`it is longer than ${limits.maxCharacters} characters`);
  const value = parseJson(text);
  requireUniqueMembers(text);
  return value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid('it is not valid JSON', cause);
  }
}

/** A string with the colon that makes it a member's name, a string, or a bracket; enough for a text that is known to be JSON. */
const TOKEN = /("(?:[^"\\]|\\.)*")\s*(:?)|[{}[\]]/g;

function requireUniqueMembers(text: string): void {
  const open: Set<string>[] = [];
  for (const [token, literal, colon] of text.matchAll(TOKEN)) {
    if (token === '{' || token === '[') open.push(new Set());
    else if (token === '}' || token === ']') open.pop();
    else if (literal !== undefined && colon === ':') addMember(open.at(-1), literal);
  }
}

function addMember(members: Set<string> | undefined, literal: string): void {
  const name = JSON.parse(literal) as string;
  if (members?.has(name) === true) throw invalid(`member ${literal.slice(0, 60)} stands twice in an object`);
  members?.add(name);
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'json_invalid', `Cannot read JSON: ${why}`, { cause });
}
