/** Rego sources are embedded as text. */
declare module '*.rego' {
  const text: string;
  export default text;
}
