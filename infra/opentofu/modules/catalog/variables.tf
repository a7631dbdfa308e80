variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "glue_prefix" {
  description = "Databases are PREFIX_ZONE; LAKEHOUSE_GLUE_DATABASE of the tasks."
  type        = string
}

variable "zones" {
  description = "Zones that lakehouse registers."
  type        = set(string)
  default     = ["silver", "gold"]
}

variable "lake_root" {
  description = "Where the lake is: s3://bucket/prefix."
  type        = string
}

variable "work_bucket" {
  description = "Where results of queries go."
  type        = string
}

variable "kms_key_arn" {
  description = "The key that results are encrypted with."
  type        = string
}

variable "scanned_bytes_at_most" {
  description = "What one query may scan."
  type        = number
}

variable "allow_deletion" {
  description = "Whether the workgroup may be deleted with its saved queries."
  type        = bool
}
