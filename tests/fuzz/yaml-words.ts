import type { PicketError } from '../../shared/errors/errors.ts';
import { outcomeOfRefusal, words } from './target.ts';

/** Words of YAML and of both configuration files. */
export const YAML_WORDS: readonly Uint8Array[] = words(
  '\n',
  '  ',
  ': ',
  '- ',
  '[',
  '{',
  ']',
  '}',
  '&a ',
  '*a',
  '&a [*a]',
  '<<: *a\n',
  '!!binary ',
  '!!timestamp ',
  '--- ',
  '... ',
  '? ',
  '| ',
  '> ',
  '"',
  "'",
  '# ',
  '%YAML 1.2\n',
  '~',
  '.inf',
  '.nan',
  '0x10',
  '0o7',
  '1e400',
  '__proto__: {}\n',
  'constructor: 1\n',
  '\t',
  '\0',
  'PICKET_AGENT__',
  'PICKET_SERVER__',
  '__PROTO__',
  '2026-11-24',
  '/',
  '[::1]:80',
  '999999:1',
);

/** YAML up to the first NUL, and behind it one variable a line. */
export function splitSettings(input: Buffer): {
  readonly text: string;
  readonly environment: Readonly<Record<string, string>>;
} {
  const [text = '', variables = ''] = input.toString('utf8').split('\0', 2);
  const pairs = variables.split('\n').map((line): [string, string] => {
    const equals = line.indexOf('=');
    return equals < 0 ? [line, ''] : [line.slice(0, equals), line.slice(equals + 1)];
  });
  return { text, environment: Object.fromEntries(pairs) };
}

/** The way of refused settings: which of them is wrong, without the names that the input made up. */
export function wayOfRefusal(refusal: PicketError): string {
  const faults = (refusal.details?.['faults'] ?? []) as readonly { readonly message: string }[];
  const settings = faults.map(({ message }) => /^[a-z_.]{1,40}(?=[:.])/.exec(message)?.[0] ?? 'other');
  return `${outcomeOfRefusal(refusal).slice(0, 40)} ${settings.slice(0, 3).join()}`;
}
