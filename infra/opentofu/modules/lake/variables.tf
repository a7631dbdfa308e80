variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "account_id" {
  description = "The account, whose root may administer the key."
  type        = string
}

variable "lake_bucket" {
  description = "The bucket of the lake."
  type        = string
}

variable "work_bucket" {
  description = "The bucket of what can be made again: Athena's results, what runs print."
  type        = string
}

variable "access_log_to" {
  description = "The bucket that says who asked for what."
  type        = string
}

variable "allow_deletion" {
  description = "Whether buckets may be deleted with what is in them."
  type        = bool
}
