variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "cidr" {
  description = "The VPC's range of addresses."
  type        = string
}

variable "zones" {
  description = "Names of availability zones."
  type        = list(string)
}

variable "nat_gateways" {
  description = "How many NAT gateways, at most one a zone."
  type        = number
}

variable "interface_endpoints" {
  description = "Services with an endpoint in the private subnets."
  type        = list(string)
}

variable "readable_buckets" {
  description = "Buckets that may be read through the S3 endpoint."
  type        = list(string)
}

variable "writable_buckets" {
  description = "Buckets that may be written through the S3 endpoint."
  type        = list(string)
}

variable "kms_key_arn" {
  description = "The key that flow logs are encrypted with."
  type        = string
}

variable "log_retention_days" {
  description = "How long flow logs are kept."
  type        = number
}
