// What goes wrong, with the status that a service would answer.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}
